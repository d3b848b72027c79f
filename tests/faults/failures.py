"""Worker 1 fails: it raises an exception, finds no memory, or its process crashes.

After a crash no `except` and no `finally` runs.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.faults import injections
from tests.faults.fault import Report, fault
from tests.faults.job import CRASH
from tests.faults.scene import Scene

_INJECTED = (
    ("exception", "an exception on worker 1, in a callback", injections.EXCEPTION),
    (
        "exception in the input",
        "an exception on worker 1, in a function that `tf.data` maps",
        injections.INPUT_RAISES,
    ),
    (
        "exception in a handler",
        "an exception on worker 1, in a signal handler",
        injections.HANDLER,
    ),
    (
        "asynchronous exception",
        "another thread raises in the main thread of worker 1, in a step",
        injections.ASYNCHRONOUS,
    ),
    ("segmentation fault", "worker 1 reads address 0, in a step", injections.SEGFAULT),
    ("abort", "`os.abort` in worker 1, in a step", injections.ABORT),
    (
        "memory error",
        "Python finds no memory on worker 1, below the process's limit",
        injections.MEMORY_ERROR,
    ),
    (
        "large tensor",
        "a step of worker 1 makes a tensor that is too large for any memory",
        injections.LARGE_TENSOR,
    ),
)
"""Name and title of each fault that worker 1 does to itself, and its kind."""


def _run(kind: str) -> Callable[[Scene], Report]:
    def run(scene: Scene) -> Report:
        return scene.injected(kind)

    return run


for _name, _title, _kind in _INJECTED:
    fault(_name, _title)(_run(_kind))


@fault("segmentation signal", "SIGSEGV to worker 1")
def segmentation_signal(scene: Scene) -> Report:
    return scene.disturbed(lambda job: job.signal(1, CRASH), culprit=1)
