"""One fault: its injection into a job, and the result.

@fault("kill worker", "kill -9 of worker 1")
def kill_worker(scene: Scene) -> Report:
    return scene.disturbed(lambda job: job.signal(1, KILL), culprit=1)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.scene import Scene


@dataclass(frozen=True)
class Report:
    """The result of a fault.

    Attributes:
        noticed: Seconds from the fault to the first line of any process that reports it.
        named: Which lines name the culprit: "launcher", "watchdog", "TensorFlow", ...
        lost: Steps that were trained and had to be trained again.
        recovered: Seconds from the fault to the first step after it.
        is_equal: Whether weights, slots, history and rows are bit for bit those of the undisturbed
            run; None if there is nothing to compare.
        left_over: Processes, ports and files that remain.
        trouble: What is wrong, in words.
    """

    noticed: float | None = None
    named: tuple[str, ...] = ()
    lost: int | None = None
    recovered: float | None = None
    is_equal: bool | None = None
    left_over: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """A case of the table.

    Attributes:
        name: For `--only`.
        title: What is done, for the table.
        run: Does it.
        missing: Returns why it cannot be done here, or "".
    """

    name: str
    title: str
    run: Callable[[Scene], Report] = field(compare=False)
    missing: Callable[[], str] = field(compare=False)


FAULTS: dict[str, Fault] = {}


def nothing() -> str:
    """Nothing is missing."""
    return ""


def fault(
    name: str, title: str, missing: Callable[[], str] = nothing
) -> Callable[[Callable[[Scene], Report]], Callable[[Scene], Report]]:
    """Makes the decorated function a case of the table; see `Fault`."""

    def register(run: Callable[[Scene], Report]) -> Callable[[Scene], Report]:
        FAULTS[name] = Fault(name, title, run, missing)
        return run

    return register
