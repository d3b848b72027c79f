"""A worker whose input does not come."""

from __future__ import annotations

import dataclasses

from tests.faults.fault import Report, fault
from tests.faults.job import STALL
from tests.faults.scene import Scene

NAMED_SECONDS = 15.0
DEADLINE_SECONDS = 20.0


@fault("stalled input", f"the input of worker 1 stops; watchdog's deadline {DEADLINE_SECONDS:g} s")
def stalled_input(scene: Scene) -> Report:
    training = dataclasses.replace(
        scene.training, is_stallable=True, watchdog_seconds=DEADLINE_SECONDS
    )
    report = scene.disturbed(lambda job: job.signal(1, STALL), culprit=1, training=training)
    if report.noticed is not None and report.noticed > NAMED_SECONDS:
        late = f"noticed after more than {NAMED_SECONDS:g} s"
        return dataclasses.replace(report, trouble=(*report.trouble, late))
    return report
