"""Workers whose process crashes: no `except` and no `finally` sees it."""

from __future__ import annotations

from tests.faults import injections
from tests.faults.fault import Report, fault
from tests.faults.job import CRASH
from tests.faults.scene import Scene


@fault("segmentation fault", "worker 1 reads address 0, in a step")
def segmentation_fault(scene: Scene) -> Report:
    return scene.injected(injections.SEGFAULT)


@fault("segmentation signal", "SIGSEGV to worker 1")
def segmentation_signal(scene: Scene) -> Report:
    return scene.disturbed(lambda job: job.signal(1, CRASH), culprit=1)


@fault("abort", "`os.abort` in worker 1, in a step")
def abort(scene: Scene) -> Report:
    return scene.injected(injections.ABORT)
