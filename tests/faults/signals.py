"""Signals that kill, stop, preempt or interrupt a worker or the launcher."""

from __future__ import annotations

import dataclasses
import time

from tests.faults.fault import Report, fault
from tests.faults.job import GO_ON, INTERRUPT, KILL, STOP, TERMINATE, Job, launcher
from tests.faults.lines import STEP_LINE
from tests.faults.scene import CASE_SECONDS, FAULT_STEP, Scene

SURVIVED_SECONDS = 8.0
"""Less than half of the limit in `strategies.coordination.heartbeats`: a heartbeat may have been
due when the worker stopped."""
INTERRUPTED_STATUS = 130
ENDED_SECONDS = 30.0
"""More than the launcher's grace of 5 s, on a busy machine."""


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
    # The launcher names the worker that fails first, which is never the stopped one.
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


@fault("preemption", "SIGTERM to worker 1 only: both save and end with 42")
def preemption(scene: Scene) -> Report:
    report = scene.disturbed(lambda job: job.signal(1, TERMINATE), culprit=1)
    if report.lost:
        lost = f"{report.lost} steps lost by a preemption; all should be saved"
        return dataclasses.replace(report, trouble=(*report.trouble, lost))
    return report


@fault("interrupt worker", "SIGINT to worker 1 only")
def interrupt_worker(scene: Scene) -> Report:
    return scene.disturbed(lambda job: job.signal(1, INTERRUPT), culprit=1)


@fault("interrupt launcher", "SIGINT to `tfscale launch`, as by Ctrl-C: the job ends with 130")
def interrupt_launcher(scene: Scene) -> Report:
    with scene.job(launcher(scene.training)) as job:
        job.await_line(rf"{STEP_LINE}{FAULT_STEP}$")
        at = time.monotonic()
        job.interrupt()
        status = job.wait(CASE_SECONDS)
        seconds = time.monotonic() - at
        left = scene.left_over(job.ports())
    trouble = [] if status == INTERRUPTED_STATUS else [f"status {status}"]
    if seconds > ENDED_SECONDS:
        trouble.append(f"it took {seconds:.0f} s to end")
    if left:
        trouble.append(f"left over: {', '.join(left)}")
    return Report(seconds, left_over=left, trouble=tuple(trouble))
