"""Whether a job that has failed is started again, and after what wait: arithmetic alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from strategies.extension import number, whole_number
from tfscale.launch.outcome import WorkerFailure

# So many failures in a row soon after the start are no accident, and a restart cures none of them.
EARLY_IN_A_ROW = 3


@dataclass(frozen=True)
class Restart:
    """The job is started again.

    Attributes:
        wait_seconds: Time between the end of the last worker and the start.
        used: Restarts that count, this one among them where it does.
        free: Whether this one does not count: the job had been preempted.
    """

    wait_seconds: float
    used: int
    free: bool


@dataclass(frozen=True)
class NoRestart:
    """The job is not started again. `reason` is a clause, or None where nobody asked."""

    reason: str | None


@dataclass(frozen=True)
class RestartPolicy:
    """At most so many restarts; preempted jobs do not use them up; no loop of early failures.

    The wait is `first_wait_seconds`, doubled after each further early failure in a row.

    Attributes:
        max_restarts: Restarts after failures. At least 0. None: the job is never started again,
            nor after a preemption.
        early_seconds: A failure sooner after the start is early, preemption or not; the third
            early one in a row is the last. At least 0; 0 takes none for early.
        first_wait_seconds: The shortest wait. At least 0.

    Raises:
        ValueError: If one of them is not so.

    Example:
        >>> policy = RestartPolicy(max_restarts=2, early_seconds=20.0, first_wait_seconds=1.0)
        >>> policy.decide([WorkerFailure(worker=1, returncode=-9, seconds=300.0)])
        Restart(wait_seconds=1.0, used=1, free=False)
    """

    max_restarts: int | None = None
    early_seconds: float = 20.0
    first_wait_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.max_restarts is not None:
            cure = "None never starts a job again."
            whole_number("max_restarts", self.max_restarts, at_least=0, cure=cure)
        number(
            "early_seconds",
            self.early_seconds,
            "finite and at least 0",
            lambda seconds: seconds >= 0,
            cure="Give 0 to take none for early.",
        )

    def decide(self, failures: Sequence[WorkerFailure]) -> Restart | NoRestart:
        """Decides by the failures so far that ended the job, one a start, the newest last."""
        if self.max_restarts is None:
            return NoRestart(None)
        used = sum(not failure.preempted for failure in failures)
        if used > self.max_restarts:
            return NoRestart(f"{self.max_restarts} of {self.max_restarts} restarts are used")
        early = sum(1 for _ in itertools.takewhile(self._is_early, reversed(failures)))
        if early >= EARLY_IN_A_ROW:
            return NoRestart(
                f"{early} times in a row the job ended within {self.early_seconds:g} s of its "
                "start, which another start is not likely to cure"
            )
        wait = self.first_wait_seconds * 2 ** max(0, early - 1)
        return Restart(wait, used, free=failures[-1].preempted)

    def _is_early(self, failure: WorkerFailure) -> bool:
        return failure.seconds < self.early_seconds
