"""Workers that are killed, stopped, told to go, or raise."""

from __future__ import annotations

import dataclasses
import time

from tests.faults.fault import Report, fault
from tests.faults.job import GO_ON, KILL, RAISE, STOP, TERMINATE, Job
from tests.faults.scene import Scene

SURVIVED_SECONDS = 8.0
"""Less than half of what `strategies.heartbeats` forgives: a heartbeat was due when it stopped."""


@fault("kill worker", "`kill -9` of worker 1")
def kill_worker(scene: Scene) -> Report:
    return scene.disturbed(lambda job: job.signal(1, KILL), culprit=1)


@fault("kill chief", "`kill -9` of worker 0, the chief")
def kill_chief(scene: Scene) -> Report:
    return scene.disturbed(lambda job: job.signal(0, KILL), culprit=0)


@fault("stop worker", "`kill -STOP` of worker 1, for good")
def stop_worker(scene: Scene) -> Report:
    return _stopped(scene, 1)


@fault("stop chief", "`kill -STOP` of worker 0, for good")
def stop_chief(scene: Scene) -> Report:
    return _stopped(scene, 0)


def _stopped(scene: Scene, worker: int) -> Report:
    # The launcher names whoever fails first, which is never the one that has stopped.
    return scene.disturbed(
        lambda job: job.signal(worker, STOP), culprit=worker, training=scene.watched_training
    )


@fault("stop 8 s", "`kill -STOP` of worker 1, 8 s later `-CONT`: survives")
def stop_for_a_moment(scene: Scene) -> Report:
    def disturb(job: Job) -> None:
        job.signal(1, STOP)
        time.sleep(SURVIVED_SECONDS)
        job.signal(1, GO_ON)

    return scene.disturbed(disturb, culprit=1, restarts=0)


@fault("exception", "an exception on worker 1")
def exception(scene: Scene) -> Report:
    return scene.disturbed(lambda job: job.signal(1, RAISE), culprit=1)


@fault("preemption", "SIGTERM to worker 1 alone: both save and end with 42")
def preemption(scene: Scene) -> Report:
    report = scene.disturbed(lambda job: job.signal(1, TERMINATE), culprit=1)
    if report.lost:
        lost = f"{report.lost} steps lost by a preemption, where all should be saved"
        return dataclasses.replace(report, trouble=(*report.trouble, lost))
    return report
