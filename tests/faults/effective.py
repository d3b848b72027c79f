"""What a disturbed training spends its time on, and how its memory grows, from its lines."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.job import Line
from tests.faults.lines import MEMORY_LINE, RESUMED_LINE, STEP_LINE
from tests.faults.training import STEPS
from tests.memory import slope


@dataclass(frozen=True)
class TimeSpent:
    """What the wall time of a job was spent on, as fractions of all of it.

    Attributes:
        counted: Steps whose result is in the final weights: the effective training time.
        lost: Steps that were repeated after a restart.
        between: The rest: starts, noticing faults, restarts, validations.
    """

    counted: float
    lost: float
    between: float

    def __str__(self) -> str:
        return (
            f"effective training time {self.counted:.0%}; {self.lost:.0%} in steps that were lost, "
            f"{self.between:.0%} in starts, restarts and validations"
        )


def time_spent(lines: Sequence[Line], worker: int, begin: float, end: float) -> TimeSpent:
    """Returns what the time of a job was spent on.

    A step lasts from the end of the previous step of the same start and epoch to its end. Its pause
    is included: it imitates the work of a larger model. The first step of a start, which is traced,
    and the first of an epoch, which follows a validation, count with the median of the others.

    Args:
        lines: Of the job.
        worker: Whose steps are counted.
        begin: When the job began, on the clock of the lines.
        end: When it ended.
    """
    starts = _starts(lines, worker)
    measured = [_seconds(steps) for steps in starts]
    known = [seconds for start in measured for seconds in start.values() if seconds is not None]
    usual = statistics.median(known) if known else 0.0
    counted = lost = 0.0
    done_later: set[int] = set()
    for start in reversed(measured):
        for step, seconds in start.items():
            if step in done_later:
                lost += usual if seconds is None else seconds
            else:
                counted += usual if seconds is None else seconds
        done_later |= start.keys()
    wall = end - begin
    return TimeSpent(counted / wall, lost / wall, 1 - (counted + lost) / wall)


def _starts(lines: Sequence[Line], worker: int) -> list[dict[int, float]]:
    """When each step of each start of a worker ended."""
    starts: list[dict[int, float]] = []
    own = rf"^\[worker {worker}\] "
    for line in lines:
        if re.match(own + RESUMED_LINE, line.text):
            starts.append({})
        elif starts and (match := re.match(own + STEP_LINE + r"(\d+)", line.text)):
            starts[-1][int(match[1])] = line.at
    return starts


def _seconds(ends: dict[int, float]) -> dict[int, float | None]:
    """How long each step of a start lasted; None if its beginning is not known."""
    return {
        step: end - ends[step - 1] if step - 1 in ends and step % STEPS != 1 else None
        for step, end in ends.items()
    }


def growth(texts: Sequence[str], warm_up_steps: int) -> float:
    """Returns the bytes per step by which a worker's memory grows, over all of its starts.

    Args:
        texts: The lines of one worker.
        warm_up_steps: Steps of each start that do not count.

    Returns:
        NaN if no start has two samples after its warm-up.
    """
    segments: list[list[tuple[float, float]]] = []
    begin = 0
    for text in texts:
        if match := re.search(RESUMED_LINE + r"(\d+)", text):
            begin = int(match[1])
            segments.append([])
        elif segments and (match := re.search(MEMORY_LINE + r"(\d+) (\d+)", text)):
            step, size = int(match[1]), int(match[2])
            if step - begin >= warm_up_steps:
                segments[-1].append((step, size))
    return slope(segments)
