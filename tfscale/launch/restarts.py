"""Decides whether a failed job is restarted, and after what wait. Pure arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from strategies.extension import number, whole_number
from tfscale.launch.outcome import WorkerFailure

# So many early failures in a row have a cause that a restart does not remove.
EARLY_IN_A_ROW = 3


@dataclass(frozen=True)
class Restart:
    """The decision to restart the job.

    Attributes:
        wait_seconds: Seconds between the end of the last worker and the restart.
        used: Counted restarts, including this one if it counts.
        free: Whether this restart does not count, because the job was preempted.
    """

    wait_seconds: float
    used: int
    free: bool


@dataclass(frozen=True)
class NoRestart:
    """The decision not to restart the job. `reason` is None if no restarts were requested."""

    reason: str | None


@dataclass(frozen=True)
class RestartPolicy:
    """Limits restarts: at most `max_restarts`, not counting preemptions, and no restart loops.

    The wait is `first_wait_seconds`, doubled after each further early failure in a row.

    Attributes:
        max_restarts: Restarts after failures. At least 0. None never restarts the job, not even
            after a preemption.
        early_seconds: A failure within so many seconds of the start is early. A preemption is
            early too: otherwise a broken job that ends with status 42 would restart without end.
            After the third early failure in a row there is no restart. At least 0; with 0 no
            failure is early.
        first_wait_seconds: The shortest wait. At least 0.

    Raises:
        ValueError: If a value is out of range.

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
            cure = "Pass None to never restart the job."
            whole_number("max_restarts", self.max_restarts, at_least=0, cure=cure)
        number(
            "early_seconds",
            self.early_seconds,
            "finite and at least 0",
            lambda seconds: seconds >= 0,
            cure="Pass 0 to count no failure as early.",
        )

    def decide(self, failures: Sequence[WorkerFailure]) -> Restart | NoRestart:
        """Decides from the failures that ended the job so far, one per start, the newest last."""
        if self.max_restarts is None:
            return NoRestart(None)
        used = sum(not failure.preempted for failure in failures)
        if used > self.max_restarts:
            return NoRestart(f"{self.max_restarts} of {self.max_restarts} restarts are used")
        early = sum(1 for _ in itertools.takewhile(self._is_early, reversed(failures)))
        if early >= EARLY_IN_A_ROW:
            return NoRestart(
                f"{early} times in a row the job ended within {self.early_seconds:g} s of its "
                "start, so another restart is unlikely to help"
            )
        wait = self.first_wait_seconds * 2 ** max(0, early - 1)
        return Restart(wait, used, free=failures[-1].preempted)

    def _is_early(self, failure: WorkerFailure) -> bool:
        return failure.seconds < self.early_seconds
