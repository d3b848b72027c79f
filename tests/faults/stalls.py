"""A worker that stalls: its input does not come, or a thread keeps Python's lock."""

from __future__ import annotations

import dataclasses

from tests.faults import injections
from tests.faults.fault import Report, fault
from tests.faults.job import INJECT
from tests.faults.scene import Scene

NAMED_SECONDS = 15.0
DEADLINE_SECONDS = 20.0
LOCKED = f"a thread of worker 1 keeps Python's lock for {injections.LOCK_SECONDS} s"


@fault("stalled input", f"the input of worker 1 stops; watchdog's deadline {DEADLINE_SECONDS:g} s")
def stalled_input(scene: Scene) -> Report:
    return _watched(scene, injections.INPUT_STALLS)


@fault("lock", f"{LOCKED}: goes on after it")
def lock(scene: Scene) -> Report:
    training = scene.injecting(injections.LOCK)
    report = scene.disturbed(
        lambda job: job.signal(1, INJECT), culprit=1, training=training, restarts=0
    )
    if not report.named:
        return dataclasses.replace(report, trouble=(*report.trouble, "worker 1 is not named"))
    return report


@fault("lock watched", f"{LOCKED}; watchdog's deadline {DEADLINE_SECONDS:g} s")
def lock_watched(scene: Scene) -> Report:
    return _watched(scene, injections.LOCK)


def _watched(scene: Scene, kind: str) -> Report:
    training = dataclasses.replace(scene.injecting(kind), watchdog_seconds=DEADLINE_SECONDS)
    report = scene.disturbed(lambda job: job.signal(1, INJECT), culprit=1, training=training)
    if report.noticed is not None and report.noticed > NAMED_SECONDS:
        late = f"noticed after more than {NAMED_SECONDS:g} s"
        return dataclasses.replace(report, trouble=(*report.trouble, late))
    return report
