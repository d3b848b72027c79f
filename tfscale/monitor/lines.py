"""Reads what Monitor has written: the starts of each worker, and what happened in them."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfscale.files.plain_files import read_plain
from tfscale.monitor.heartbeat import file_of
from tfscale.monitor.journal import VERSION
from tfscale.monitor.phases import PHASES

_NAME = re.compile(r"monitor-(\d+)\.jsonl")
_NUMBERS = {
    "begin": ("time", "clock", "process", "process_began", "restore_seconds", "position"),
    "steps": ("time", "clock", "steps", "seconds", "examples", "position"),
    "heartbeat": ("time", "clock", "process", "steps", "position"),
    "end": ("time", "clock", "position"),
}
_PHASES = {"steps": ("phases",), "heartbeat": ("phases", "step_phases")}


@dataclass
class Fit:
    """A call of `fit` of one worker.

    Attributes:
        begin: The line of its beginning.
        windows: Its lines of steps, in order.
        end: The line of its end, or None if it did not end by itself.
        heartbeat: What followed the newest of `windows`, if it did not end by itself: "phases" of
            "steps", and "step_phases" of the step that was not completed.
    """

    begin: dict[str, Any]
    windows: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = None
    heartbeat: dict[str, Any] | None = None

    @property
    def last(self) -> dict[str, Any]:
        """The newest line."""
        for line in (self.end, self.heartbeat):
            if line is not None:
                return line
        return self.windows[-1] if self.windows else self.begin


def read_fits(folder: Path) -> dict[int, list[Fit]]:
    """Reads the files of all workers.

    Args:
        folder: The `folder` of Monitor.

    Returns:
        The calls of `fit` of each worker, in order, by its index.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If there is none, one is not a plain file, or a line is not Monitor's.
    """
    if not folder.is_dir():
        raise ValueError(
            f"`folder` must be the folder of a Monitor. Received: folder={str(folder)!r}, which "
            "is not a folder. Give the one that was passed to tfscale.callbacks.Monitor."
        )
    found = {}
    for path in folder.iterdir():
        if (name := _NAME.fullmatch(path.name)) and (fits := _fits(path, int(name[1]))):
            found[int(name[1])] = fits
    if not found:
        raise ValueError(
            "`folder` must contain monitor-0.jsonl, which Monitor writes. Received: folder="
            f"{str(folder)!r} without a line of it. Give the one that was passed to "
            "tfscale.callbacks.Monitor."
        )
    return dict(sorted(found.items()))


def _fits(path: Path, worker: int) -> list[Fit]:
    fits: list[Fit] = []
    for number, line in _lines(path):
        event = line["event"]
        if event == "begin":
            fits.append(Fit(line))
        elif event == "heartbeat":
            _add_heartbeat(fits, line)
        elif not fits or fits[-1].end is not None:
            raise _malformed(path, number, f"{event!r} before a beginning")
        elif event == "steps":
            fits[-1].windows.append(line)
        else:
            fits[-1].end = line
    with contextlib.suppress(FileNotFoundError):
        for _, line in _lines(file_of(path.parent, worker)):
            _add_heartbeat(fits, line)
    return fits


def _add_heartbeat(fits: list[Fit], line: dict[str, Any]) -> None:
    """Adds a heartbeat to the `fit` that it is of, unless there is a newer line of it."""
    for fit in fits[-1:]:
        if line["process"] == fit.begin["process"] and line["clock"] > fit.last["clock"]:
            fit.heartbeat = line


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the number and the content of each line, but for those that a kill has cut off."""
    cut: tuple[int, str] | None = None
    content = read_plain(path).decode("utf-8", errors="replace")
    for number, text in enumerate(content.splitlines(), 1):
        try:
            line = json.loads(text)
        except RecursionError:
            raise _malformed(path, number, f"JSON that is nested too deep, {text}") from None
        except ValueError:
            if cut is not None:
                raise _malformed(path, *cut) from None
            cut = number, text
            continue
        _check(path, number, line)
        if cut is not None and line["event"] not in ("begin", "heartbeat"):
            raise _malformed(path, *cut)
        cut = None
        yield number, line


def _check(path: Path, number: int, line: Any) -> None:
    event = line.get("event") if isinstance(line, dict) else None
    if event not in _NUMBERS:
        raise _malformed(path, number, repr(line))
    if event == "begin" and line.get("version") != VERSION:
        raise ValueError(
            f"`{path.name}` must have been written by Monitor version {VERSION}. Received: version "
            f"{line.get('version')!r} in line {number}. Read it with the release of tfscale that "
            "wrote it."
        )
    for name in _NUMBERS[event]:
        if type(line.get(name)) not in (int, float):
            raise _malformed(path, number, f"{name}={line.get(name)!r}")
    for name in _PHASES.get(event, ()):
        phases = line.get(name)
        numbers = [phases.get(each) for each in PHASES] if isinstance(phases, dict) else [None]
        if any(type(each) not in (int, float) for each in numbers):
            raise _malformed(path, number, f"{name}={phases!r}")
    energy = line.get("energy", {})
    read = energy.values() if isinstance(energy, dict) else [None]
    if any(not isinstance(each, dict) or not _is_energy(each) for each in read):
        raise _malformed(path, number, f"energy={energy!r}")
    for name, needed in (("energy_unread", None), ("unwritten", ("lines",))):
        found = line.get(name, {})
        counted = found if isinstance(found, dict) else {name: None}
        for each in counted if needed is None or not counted else needed:
            if type(counted.get(each)) not in (int, float):
                raise _malformed(path, number, f"{name}={found!r}")


def _is_energy(read: dict[str, Any]) -> bool:
    return type(read.get("joules")) in (int, float) and isinstance(read.get("source"), str)


def _malformed(path: Path, number: int, found: str) -> ValueError:
    return ValueError(
        f"`{path.name}` must contain lines of JSON as Monitor version {VERSION} writes them. "
        f"Received: {found[:80]} in line {number}. Remove the line, or monitor again."
    )
