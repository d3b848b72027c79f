"""What a disturbed job's time was spent on, as its lines and its processes show from outside.

Compared with what `tfscale.monitor.goodput` says about the same job, of which it knows nothing.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.job import Job, Line
from tests.faults.lines import (
    BEGIN_LINE,
    EPOCHS_LINE,
    OVER_LINE,
    RESUMED_LINE,
    START_LINE,
    STEP_LINE,
)

GROUPS = {
    "start": ("start", "restore"),
    "steps": (
        *("compile", "input_wait", "step", "waiting_for_workers", "callbacks", "evaluation"),
        "save",
    ),
    "lost work": ("lost_work",),
    "stopped": ("stopped",),
}
"""Kinds of `tfscale.monitor.goodput` by what can be seen from outside."""
TOLERANCE = 0.02
"""Part of the time of the job by which a group may differ."""
_POLL_SECONDS = 0.05
_ENDED = "TtZX"
"""States of a process, of proc(5): stopped, and it will be killed, or dead."""


class Deaths(threading.Thread):
    """Notes when the workers of a job were stopped or died.

    Args:
        job: The job.

    Attributes:
        at: When, by the process, on the clock of `time.monotonic`.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(daemon=True)
        self.at: dict[int, float] = {}
        self._job = job
        self._is_over = threading.Event()
        self.start()

    def run(self) -> None:
        """Looks at all processes until `end`."""
        alive: set[int] = set()
        seen = 0
        while not self._is_over.wait(_POLL_SECONDS):
            lines = self._job.lines
            found = (re.search(START_LINE + r"(\d+)", line.text) for line in lines[seen:])
            alive |= {int(match[1]) for match in found if match}
            seen = len(lines)
            for process in [each for each in alive if _state(each) in _ENDED]:
                self.at[process] = time.monotonic()
                alive.remove(process)

    def end(self) -> dict[int, float]:
        """Looks for the last time; returns when the processes ended."""
        time.sleep(2 * _POLL_SECONDS)
        self._is_over.set()
        self.join()
        return self.at


def _state(process: int) -> str:
    try:
        text = Path(f"/proc/{process}/stat").read_text("ascii", errors="replace")
    except OSError:
        return "X"
    return text.rpartition(")")[2].split()[0]


@dataclass
class _Start:
    """A start of a worker: when it and its epochs began, each step ended, and `fit` was over."""

    begun: float
    process: int = 0
    resumed: float | None = None
    epochs: float | None = None
    position: int = -1
    steps: list[tuple[int, float]] = field(default_factory=list)
    over: float | None = None
    has_failed: bool = True


def known_times(
    lines: Sequence[Line], deaths: Mapping[int, float], worker: int
) -> dict[str, float]:
    """Returns the seconds of each of `GROUPS` of one worker.

    A step lasts from the end of the previous one to its own; one that was not completed is lost
    work. The first one of a start compiles, and is none. What a start without an epoch did after
    its `fit` began counts as stopped, and so does one without a `fit`.

    Args:
        lines: Of the job.
        deaths: When its processes ended.
        worker: Its index.
    """
    found = dict.fromkeys(GROUPS, 0.0)
    starts = [start for start in _starts(lines, worker) if start.resumed is not None]
    for start, later in itertools.zip_longest(starts, starts[1:]):
        assert start.resumed is not None
        before = start.resumed if start.epochs is None else start.epochs
        found["start"] += before - start.begun
        for place, (step, at) in enumerate(start.steps):
            is_lost = place > 0 and later is not None and step > later.position
            found["lost work" if is_lost else "steps"] += at - before
            before = at
        end = before
        if start.epochs is not None:
            end = deaths[start.process] if start.over is None else start.over
        is_lost = later is not None and start.has_failed and bool(start.steps)
        found["lost work" if is_lost else "steps"] += max(0.0, end - before)
        if later is not None:
            found["stopped"] += later.begun - end
    return found


def _starts(lines: Sequence[Line], worker: int) -> list[_Start]:
    starts: list[_Start] = []
    own = f"[worker {worker}] "
    for line in lines:
        text = line.text.removeprefix(own)
        if text == line.text:
            continue
        if text.startswith(BEGIN_LINE):
            starts.append(_Start(line.at))
        elif text.startswith(START_LINE):
            starts[-1].process = int(text.removeprefix(START_LINE).split()[0])
        elif text.startswith(RESUMED_LINE):
            starts[-1].resumed, starts[-1].position = line.at, int(text.removeprefix(RESUMED_LINE))
        elif text.startswith(EPOCHS_LINE):
            starts[-1].epochs = line.at
        elif text.startswith(STEP_LINE):
            starts[-1].steps.append((int(text.removeprefix(STEP_LINE)), line.at))
        elif text.startswith(OVER_LINE):
            starts[-1].over, starts[-1].has_failed = line.at, "it ended" not in text
    return starts


def compared(kinds: Mapping[str, float], known: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """Compares the kinds of time that Monitor recorded with those that are known.

    Args:
        kinds: Of a worker, by `tfscale.monitor.goodput`.
        known: By `known_times`.

    Returns:
        Lines of a table, and what differs by more than `TOLERANCE` of the time, in words.
    """
    total = sum(known.values())
    rows, trouble = [], []
    for name, parts in GROUPS.items():
        seconds = sum(kinds[part] for part in parts)
        apart = (seconds - known[name]) / total
        rows.append(
            f"{name:<10}{known[name]:>8.1f} s known{seconds:>8.1f} s recorded{apart:>+8.2%}"
        )
        if not abs(apart) <= TOLERANCE:
            trouble.append(f"{seconds:.1f} s of {name} recorded, {known[name]:.1f} s known")
    return rows, trouble
