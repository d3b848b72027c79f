"""Reads lines of Monitor in blocks: numbers by name, in other processes if there are many lines.

JSON takes most of the time, and its reader holds Python's lock.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
from array import array
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeGuard

from tfscale.monitor.phases import PHASES

SUMMED = ("steps", "seconds", "examples", *(f"phases/{phase}" for phase in PHASES))
LAST = ("time", "clock", "position")

_STEPS = b'{"event": "steps"'
_BLOCK_BYTES = 4 * 2**20
_MANY_BYTES = 64 * 2**20
_MOST_PROCESSES = 8
_SECONDS = 600.0
_MOST_COLUMNS = 200


@dataclass(frozen=True)
class Rows:
    """Neighbouring lines of steps that have the same names.

    Attributes:
        names: Of the numbers, such as "phases/compute"; `SUMMED` and `LAST` are among them.
        columns: The numbers of each name; NaN where a line has none.
    """

    names: tuple[str, ...]
    columns: list[array[float]]


Part = Rows | bytes
"""Lines of steps, or a line that is not one of steps, as it is."""


def read_parts(path: Path) -> Iterator[Part]:
    """Yields what a file consists of, in its order.

    Raises:
        OSError: If it cannot be read, or a process that reads a part of it ends.
    """
    cores = min(_MOST_PROCESSES, len(os.sched_getaffinity(0)) if _HAS_AFFINITY else 1)
    with path.open("rb") as file:
        blocks = iter(lambda: file.readlines(_BLOCK_BYTES), [])
        if cores < 2 or path.stat().st_size < _MANY_BYTES:
            for block in blocks:
                yield from parts(block)
            return
        # Spawned, because the caller may have threads.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(cores, context, initializer=_ignore_interrupts) as pool:
            waiting: deque[Future[list[Part]]] = deque()
            for block in blocks:
                waiting.append(pool.submit(parts, block))
                if len(waiting) > 2 * cores:
                    yield from _result(waiting.popleft(), path)
            while waiting:
                yield from _result(waiting.popleft(), path)


_HAS_AFFINITY = hasattr(os, "sched_getaffinity")  # not on macOS and Windows


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends this process through its parent


def _result(future: Future[list[Part]], path: Path) -> list[Part]:
    try:
        return future.result(timeout=_SECONDS)
    except BrokenProcessPool as error:
        raise OSError(
            f"{path} could not be read: a process that reads a part of it was ended, perhaps for "
            "its memory."
        ) from error


def parts(lines: Sequence[bytes]) -> list[Part]:
    """Returns what lines consist of, in their order."""
    found: list[Part] = []
    row: _Row | None = None
    rows: list[tuple[Any, ...]] = []

    def end_rows() -> None:
        if rows:
            assert row is not None
            found.append(Rows(row.names, [_column(each) for each in zip(*rows, strict=True)]))
            rows.clear()

    for text, line in zip(lines, _parsed_lines(lines), strict=True):
        numbers = row.of(line) if row is not None and text.startswith(_STEPS) else None
        if numbers is None:
            end_rows()
            made = _Row.made(line) if text.startswith(_STEPS) else None
            numbers = made.of(line) if made is not None else None
            if numbers is None:
                found.append(text)
                continue
            row = made
        rows.append(numbers)
    end_rows()
    return found


def _column(values: Sequence[Any]) -> array[float]:
    try:
        return array("d", values)
    except (TypeError, OverflowError):
        return array("d", map(_number, values))


@dataclass(frozen=True)
class _Row:
    """Where the numbers of lines are that have the same names.

    Attributes:
        names: Of the numbers, such as "phases/compute".
        groups: The names of a mapping in a line, how many names it has, and what takes its numbers.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[tuple[str, ...], int, Any], ...]

    @classmethod
    def made(cls, line: Any) -> _Row | None:
        """Returns the row of a line; None if it is not a line of steps."""
        if not isinstance(line, dict):
            return None
        names: list[str] = []
        groups = []
        for path, mapping in _mappings(line, ()):
            own = [key for key, value in mapping.items() if value is None or is_number(value)]
            own = own[: max(0, _MOST_COLUMNS - len(names))]
            names += ["/".join((*path, key)) for key in own]
            groups.append((path, len(mapping), _getter(own)))
        if not set(SUMMED) | set(LAST) <= set(names):
            return None
        if any(line.get(name) is None for name in (*LAST, *SUMMED[:3])):
            return None
        if any(line["phases"][phase] is None for phase in PHASES):
            return None
        return cls(tuple(names), tuple(groups))

    def of(self, line: Any) -> tuple[Any, ...] | None:
        """Returns the numbers of a line; None if it has other names."""
        found: tuple[Any, ...] = ()
        try:
            for path, size, getter in self.groups:
                mapping = line
                for key in path:
                    mapping = mapping[key]
                if len(mapping) != size:
                    return None
                found += getter(mapping)
        except (KeyError, TypeError):
            return None
        return found


def _mappings(
    line: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    yield path, line
    for key, value in line.items():
        if isinstance(value, dict):
            yield from _mappings(value, (*path, key))


def _getter(names: Sequence[str]) -> Any:
    if len(names) > 1:
        return itemgetter(*names)
    return (lambda mapping: (mapping[names[0]],)) if names else (lambda mapping: ())


def is_number(value: Any) -> TypeGuard[float]:
    """Returns whether a value of JSON is a number."""
    return type(value) in (int, float)


def _number(value: Any) -> float:
    try:
        return float(value) if is_number(value) else math.nan
    except OverflowError:  # an integer of more than 308 digits
        return math.nan


def _parsed_lines(block: Sequence[bytes]) -> list[Any]:
    """Returns the content of each line, None if it is not JSON."""
    try:
        found = json.loads(b"[%s]" % b",".join(block))
        if len(found) == len(block):
            return list(found)
    except (ValueError, RecursionError):
        pass
    return [parsed_line(text) for text in block]


def parsed_line(text: bytes) -> dict[str, Any]:
    """Returns the content of a line; {} if it is not a JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
