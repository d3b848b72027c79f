"""Reads a million lines of Monitor: numbers by name in arrays, and a short copy of the file.

Lines of steps become arrays of doubles, 8 bytes a number. In the copy, neighbouring lines of steps
are one line, with the sums of their seconds and joules, so that `tfscale.monitor` reads it at once
and finds the same; every other line is copied as it is.
"""

from __future__ import annotations

import bisect
import json
import math
import mmap
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfscale.monitor.phases import PHASES
from tfscale.report.monitor_rows import LAST, SUMMED, Rows, is_number, parsed_line, read_parts

_BEGIN = b'{"event": "begin"'
_ENERGY = b'"energy": {"'
_UNREAD = "energy_unread/"


@dataclass
class Columns:
    """The lines of steps of a worker, in their order.

    Attributes:
        values: Numbers by name, such as "seconds" and "phases/compute": all of one length, NaN
            where a line has no such number.
        kept: Slices of what no restart repeated, as first, end, and what is added to "position" to
            count on after another training in the same process.
    """

    values: dict[str, array[float]] = field(default_factory=dict)
    kept: list[tuple[int, int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values["seconds"]) if self.values else 0

    def of_kept(self, name: str) -> array[float]:
        """Returns a column without the lines that a restart repeated."""
        column = self.values[name]
        found = array("d")
        for first, end, _ in self.kept:
            found.extend(column[first:end])
        return found

    def positions(self) -> array[float]:
        """Returns the steps of the job before the end of each kept line, ascending."""
        column = self.values["position"] if self.values else array("d")
        found = array("d")
        for first, end, offset in self.kept:
            found.extend(value + offset for value in column[first:end])
        return found


def read_columns(path: Path, copy: Path) -> Columns:
    """Reads the file of a worker and writes its short copy.

    Args:
        path: A `monitor-0.jsonl`.
        copy: A new file. Lines that are not Monitor's are in it as they are.

    Raises:
        OSError: If a file cannot be read or written.
    """
    reading = _Reading(*_begins(path))
    with copy.open("wb") as short:
        for part in read_parts(path):
            if isinstance(part, bytes):
                short.writelines(reading.stretch())
                reading.other(part)
                short.write(part)
            else:
                reading.add(part)
        short.writelines(reading.stretch())
    reading.end_fit()
    return reading.columns


class _Reading:
    """The state of reading a file."""

    def __init__(self, begins: Sequence[float], sources: Mapping[str, str]) -> None:
        self.columns = Columns()
        self._begins, self._sources = begins, sources
        self._written = self._first = self._offset = 0
        self._process: Any = None

    def add(self, rows: Rows) -> None:
        """Adds lines of steps."""
        values, length = self.columns.values, len(self.columns)
        count = len(rows.columns[0])
        for name, column in zip(rows.names, rows.columns, strict=True):
            values.setdefault(name, array("d", [math.nan]) * length).extend(column)
        for into in values.values():
            if len(into) < length + count:
                into.extend([math.nan] * (length + count - len(into)))

    def stretch(self) -> Iterator[bytes]:
        """Yields lines of the copy for the lines of steps that are not in it yet."""
        first, end = self._written, len(self.columns)
        self._written = end
        values = self.columns.values
        while first < end:
            # A `fit` that begins at `limit` repeats what is after it, so lines up to it share one.
            # A line across a beginning has one of its own: a part of it is repeated.
            position = values["position"][first]
            following = bisect.bisect_left(self._begins, position)
            limit = self._begins[following] if following < len(self._begins) else math.inf
            is_across = following > bisect.bisect_right(
                self._begins, position - values["steps"][first]
            )
            last = bisect.bisect_right(values["position"], limit, first, end)
            last = first + 1 if is_across else last
            line: dict[str, Any] = {"event": "steps"}
            line |= {name: values[name][last - 1] for name in LAST}
            line |= {name: math.fsum(values[name][first:last]) for name in SUMMED}
            line["phases"] = {phase: line.pop(f"phases/{phase}") for phase in PHASES}
            line["energy"] = dict(self._energy(first, last))
            if unread := self._unread(last - 1):
                line["energy_unread"] = unread
            yield json.dumps(line).encode() + b"\n"
            first = last

    def _energy(self, first: int, last: int) -> Iterator[tuple[str, dict[str, Any]]]:
        for device, source in self._sources.items():
            column = self.columns.values.get(f"energy/{device}/joules", array("d"))[first:last]
            known = [joules for joules in column if not math.isnan(joules)]
            if known:
                yield device, {"joules": math.fsum(known), "source": source}

    def _unread(self, place: int) -> dict[str, float]:
        columns = self.columns.values.items()
        found = {name[len(_UNREAD) :]: c[place] for name, c in columns if name.startswith(_UNREAD)}
        return {device: seconds for device, seconds in found.items() if not math.isnan(seconds)}

    def other(self, text: bytes) -> None:
        """Takes a line of another event."""
        if not text.startswith(_BEGIN):
            return
        self.end_fit()
        begin = parsed_line(text)
        position = begin.get("position")
        if not is_number(position):
            return  # the copy is refused for it
        process = begin.get("boot"), begin.get("process"), begin.get("process_began")
        if process == self._process:
            kept = self.columns.kept
            at = self.columns.values["position"][kept[-1][1] - 1] + kept[-1][2] if kept else 0
            self._offset = max(self._offset, int(at - position))
        elif self._process is not None:
            self._drop_repeated(position)
        self._process = process

    def end_fit(self) -> None:
        """Notes the lines of a `fit` that has ended."""
        if self._first < len(self.columns):
            self.columns.kept.append((self._first, len(self.columns), self._offset))
        self._first = len(self.columns)

    def _drop_repeated(self, position: float) -> None:
        kept = self.columns.kept
        while kept and kept[-1][2] == self._offset:
            first, end, offset = kept.pop()
            end = bisect.bisect_right(self.columns.values["position"], position, first, end)
            if first < end:
                kept.append((first, end, offset))
                return


def _begins(path: Path) -> tuple[list[float], dict[str, str]]:
    """Returns the positions at which a `fit` of the file began, and the sources of its energy.

    Returns:
        The positions, ascending; and by device the source in the first line after a beginning.
    """
    if not path.stat().st_size:
        return [], {}
    found = set()
    sources: dict[str, str] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place, measured = content.find(_BEGIN), content.find(_ENERGY)
        while place >= 0:
            position = _line_around(content, place).get("position")
            if is_number(position):
                found.add(position)
            if 0 <= measured < place:
                measured = content.find(_ENERGY, place)
            if measured >= 0:
                sources |= _sources(_line_around(content, measured))
            place = content.find(_BEGIN, place + 1)
    return sorted(found), sources


def _line_around(content: mmap.mmap, place: int) -> dict[str, Any]:
    end = content.find(b"\n", place)
    first = content.rfind(b"\n", 0, place) + 1
    return parsed_line(content[first : end if end >= 0 else len(content)])


def _sources(line: Mapping[str, Any]) -> dict[str, str]:
    energy = line.get("energy")
    devices = energy.items() if isinstance(energy, dict) else ()
    return {
        device: read["source"]
        for device, read in devices
        if isinstance(read, dict) and isinstance(read.get("source"), str)
    }
