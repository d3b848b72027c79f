"""How long each part of a restart takes: in one job, a worker has the same fault repeatedly."""

from __future__ import annotations

import dataclasses
import itertools
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.job import INJECT, KILL, STOP, TERMINATE, Job, Line, launcher
from tests.faults.lines import (
    BEGIN_LINE,
    RESTART_LINE,
    RESUMED_LINE,
    START_LINE,
    STEP_LINE,
    TOGETHER_LINE,
)
from tests.faults.training import WORKERS, Training

NAME = "restart latency"
"""For `--only`."""
RESTARTS = 5
STEPS_BETWEEN = 15
"""More than a restart has to repeat."""
EPOCHS = 20
PACE_SECONDS = 0.1
DEADLINE_SECONDS = 20.0
"""Of the Watchdog, for a stopped worker."""
RECOVERY_SECONDS = 200.0
KINDS = {
    "`kill -9` of worker 1": KILL,
    "an exception on worker 1": INJECT,
    "SIGTERM to worker 1": TERMINATE,
    f"`kill -STOP` of worker 1; watchdog's deadline {DEADLINE_SECONDS:g} s": STOP,
}
PARTS = ("notice", "end", "start", "import", "connect", "restore", "first step")
_MARKS = (BEGIN_LINE, START_LINE, TOGETHER_LINE, RESUMED_LINE, STEP_LINE)
"""Each of these lines ends one of the parts from `start` on."""


@dataclass(frozen=True)
class Restart:
    """The seconds of one restart.

    Attributes:
        notice: From the fault until the launcher knows that a worker has failed.
        end: Until all processes of the job have ended.
        start: Until new processes run; 1 s of it is the launcher's wait.
        imported: Until tensorflow and tfscale are imported.
        together: Until the workers are connected and have a strategy.
        restored: Until the model is built and the checkpoint restored.
        step: Until the first step is done; tracing is part of it.
    """

    notice: float
    end: float
    start: float
    imported: float
    together: float
    restored: float
    step: float


def restart(lines: Sequence[Line], at: float, num_workers: int) -> Restart:
    """Returns the parts of the first restart after a fault; the slowest worker ends each.

    Args:
        lines: Of the job.
        at: When the fault happened.
        num_workers: Each must print every line.

    Raises:
        ValueError: If the lines do not show a whole restart.
    """
    notice = _first(lines, at, "^tfscale launch: .* (failed first|was preempted)")
    moments = [at, notice, _first(lines, notice, RESTART_LINE)]
    for mark in _MARKS:
        by_worker = (
            _first(lines, moments[2], rf"^\[worker {worker}\] {mark}")
            for worker in range(num_workers)
        )
        moments.append(max(by_worker))
    return Restart(*(end - begin for begin, end in itertools.pairwise(moments)))


def _first(lines: Sequence[Line], begin: float, pattern: str) -> float:
    for line in lines:
        if line.at >= begin and re.search(pattern, line.text):
            return line.at
    raise ValueError(f"A restart must have a line with {pattern!r}. Received: none after {begin}.")


def line(kind: str, folder: Path) -> str:
    """Repeats one fault of a worker, and returns its line of the table.

    Args:
        kind: One of `KINDS`.
        folder: Empty.

    Raises:
        TimeoutError: If the job does not go on after a fault.
    """
    training = Training(
        WORKERS,
        str(folder),
        epochs=EPOCHS,
        pace_seconds=PACE_SECONDS,
        watchdog_seconds=DEADLINE_SECONDS if KINDS[kind] == STOP else None,
    )
    found = []
    command = launcher(training, "--num_workers=2", f"--max_restarts={RESTARTS}")
    temporary = folder / "tmp"
    temporary.mkdir()
    with Job(command, str(folder), {"TMPDIR": str(temporary)}) as job:
        for count in range(RESTARTS):
            job.await_line(rf"{STEP_LINE}{STEPS_BETWEEN * (count + 1)}$")
            at = time.monotonic()
            job.signal(1, KINDS[kind])
            again = job.await_line(RESTART_LINE, RECOVERY_SECONDS, at).at
            for worker in range(2):
                job.await_line(rf"^\[worker {worker}\] {STEP_LINE}", RECOVERY_SECONDS, again)
            found.append(restart(job.lines, at, 2))
    restarts = [dataclasses.astuple(each) for each in found]
    medians = [statistics.median(part) for part in zip(*restarts, strict=True)]
    whole = statistics.median(map(sum, restarts))
    cells = [kind, *(f"{seconds:.1f} s" for seconds in (*medians, whole))]
    return f"| {' | '.join(cells)} |"
