"""How a worker ended that another process than the launcher supervised: of MPI, or of Ray."""

from __future__ import annotations

from dataclasses import dataclass

from strategies.extension import ExitReason


@dataclass(frozen=True)
class EndReport:
    """How a worker ended.

    Attributes:
        rank: Its rank, which is its index.
        returncode: As in `subprocess`.
        seconds: Seconds from its start to its end.
        at: When it ended, in seconds of `time.time`.
        was_stopped: Whether it had been asked to end.
        reason: The exit reason that it wrote, or None.
    """

    rank: int
    returncode: int
    seconds: float
    at: float
    was_stopped: bool
    reason: ExitReason | None
