"""What the lines of a job show: what noticed a fault, what was lost, when training continued."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.faults.job import Line
from tests.faults.lines import RESUMED_LINE, STEP_LINE

NOTICE = re.compile(
    r"^tfscale launch: .*(failed first|was preempted|could not|cannot|has no address)"
    r"|tfscale: watchdog: |tfscale: worker \d+ has waited "
    r"|tfscale: .*(preempt|SIGTERM)|tfscale: .*gives up"
    r"|[A-Z]\w+Error(Impl)?\b"
)
"""A line of any process that reports a fault."""


def notices(lines: Sequence[Line], at: float) -> list[str]:
    """Returns the lines after a fault that report one."""
    return [line.text for line in lines if line.at >= at and NOTICE.search(line.text)]


def noticed(lines: Sequence[Line], at: float) -> float | None:
    """Returns the seconds from a fault to the first line that reports it."""
    times = (line.at for line in lines if line.at >= at and NOTICE.search(line.text))
    return next((time - at for time in times), None)


def names(lines: Sequence[Line], at: float, culprit: int) -> tuple[str, ...]:
    """Returns who names the culprit after a fault, and after how many seconds.

    Args:
        lines: Of the job.
        at: When the fault happened.
        culprit: Index of the worker.
    """
    patterns = {
        "launcher": rf"^tfscale launch: worker {culprit} (failed first|was preempted)",
        "watchdog": rf"tfscale: watchdog: .*\bworker {culprit}\b",
        "waiting worker": rf"tfscale: worker \d+ has waited .*\bworker {culprit}\b",
        "worker": rf"\bworker {culprit} failed with |Missing: .*\bworker {culprit}\b",
        "itself": rf"^\[worker {culprit}\] tfscale: SIGTERM: ",
        "TensorFlow": rf"Error.*/job:worker/(replica:0/)?task:{culprit}\b",
    }
    found = []
    for who, pattern in patterns.items():
        times = [line.at for line in lines if line.at >= at and re.search(pattern, line.text)]
        if times:
            found.append(f"{who} ({times[0] - at:.1f} s)")
    return tuple(found)


def lost(lines: Sequence[Line]) -> int:
    """Returns the most steps that a restart had to repeat."""
    most = done = 0
    for line in lines:
        if match := re.search(STEP_LINE + r"(\d+)", line.text):
            done = max(done, int(match[1]))
        elif (match := re.search(RESUMED_LINE + r"(\d+)", line.text)) and done:
            most = max(most, done - int(match[1]))
    return most


def recovered(lines: Sequence[Line], at: float) -> float | None:
    """Returns the seconds from a fault to the first step of the start after it."""
    restarts = [line.at for line in lines if line.at >= at and RESUMED_LINE in line.text]
    if not restarts:
        return None
    steps = (line.at for line in lines if line.at >= restarts[0] and STEP_LINE in line.text)
    return next((time - at for time in steps), None)
