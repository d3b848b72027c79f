"""What `tfscale.callbacks.Monitor` left of a run, as a report shows it."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfscale.monitor.joules import Energy, energy
from tfscale.monitor.lines import Fit, read_fits
from tfscale.monitor.time_kinds import Goodput, goodput
from tfscale.report.monitor_columns import Columns, read_columns

_LINES = re.compile(r"monitor-(\d+)\.jsonl")
_BESIDE = re.compile(r"heartbeat-\d+\.json")
_DEEPEST = 3


@dataclass(frozen=True)
class Monitored:
    """The files of all workers in one folder of Monitor.

    Attributes:
        folder: Where they are.
        workers: The numbers of each worker's lines, by its index. Those without a line are missing.
        fits: The calls of `fit` of each worker. Neighbouring lines are summed up.
        good: Where the time went.
        energy: What all workers took, each host and GPU counted once; None if not measured.
    """

    folder: Path
    workers: dict[int, Columns]
    fits: dict[int, list[Fit]]
    good: Goodput
    energy: Energy | None

    @property
    def began(self) -> float:
        """When the first process began, on `time`."""
        first = [fits[0].begin for fits in self.fits.values()]
        return float(min(line["time"] - line["clock"] + line["process_began"] for line in first))


@dataclass(frozen=True)
class Restart:
    """A process of a worker after its first one.

    Attributes:
        worker: Its index.
        after: Seconds from the beginning of the job to that of the process.
        stopped: Seconds from the last line of the process before.
        position: The step it went on from.
        repeated: Steps that it repeated.
    """

    worker: int
    after: float
    stopped: float
    position: int
    repeated: int


def monitor_folders(folder: Path) -> list[Path]:
    """Returns the folders with files of Monitor: this one, and those up to three levels below."""
    found = []
    depth = len(folder.parts)
    for name, folders, files in os.walk(folder):
        here = Path(name)
        is_deepest = len(here.parts) - depth >= _DEEPEST
        folders[:] = [] if is_deepest else sorted(f for f in folders if not f.startswith("."))
        if any(_LINES.fullmatch(file) for file in files):
            found.append(here)
    return found


def read_monitor(folder: Path) -> Monitored:
    """Reads a folder of Monitor, however long its files are.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a line is not Monitor's, or there is none.
    """
    workers = {}
    with tempfile.TemporaryDirectory() as temporary:
        short = Path(temporary)
        for path in sorted(folder.iterdir()):
            name = _LINES.fullmatch(path.name)
            if name and path.is_file():
                workers[int(name[1])] = read_columns(path, short / path.name)
            elif _BESIDE.fullmatch(path.name) and path.is_file():
                shutil.copyfile(path, short / path.name)
        try:
            good, fits = goodput(short), read_fits(short)
            is_measured = any(
                w.get("energy") for own in fits.values() for f in own for w in f.windows
            )
            taken = energy(short) if is_measured else None
        except ValueError:
            read_fits(folder)  # names the line
            raise
    columns = {index: workers[index] for index in sorted(fits) if len(workers[index])}
    return Monitored(folder, columns, fits, good, taken)


def restarts(monitored: Monitored) -> list[Restart]:
    """Returns what started workers again, in the order of time."""
    found = []
    for worker, fits in monitored.fits.items():
        for before, fit in itertools.pairwise(fits):
            if _process(before) == _process(fit):
                continue
            process_began = fit.begin["time"] - fit.begin["clock"] + fit.begin["process_began"]
            found.append(
                Restart(
                    worker=worker,
                    after=max(0.0, process_began - monitored.began),
                    stopped=max(0.0, process_began - before.last["time"]),
                    position=int(fit.begin["position"]),
                    repeated=max(0, int(before.last["position"] - fit.begin["position"])),
                )
            )
    return sorted(found, key=lambda restart: (restart.after, restart.worker))


def names(monitored: Monitored) -> Sequence[str]:
    """Returns the names of all columns, in the order of their first line."""
    found: dict[str, Any] = {}
    for each in monitored.workers.values():
        found |= dict.fromkeys(each.values)
    return list(found)


def _process(fit: Fit) -> tuple[Any, ...]:
    return fit.begin.get("boot"), fit.begin["process"], fit.begin["process_began"]
