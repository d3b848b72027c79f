"""Scans record files and writes their indexes, in this process or in several.

Processes only scan; this one writes. So they can be killed at any time, and an index is complete or
does not exist.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tfscale.files import reason
from tfscale.records.index import RecordFileError, RecordIndex, index_path, scanned, write_index

Say = Callable[[str], None]
Result = RecordIndex | RecordFileError | OSError

_PATIENCE_SECONDS = 3.0


@dataclass(frozen=True, eq=False)
class Scan:
    """What a scan of one file found.

    Attributes:
        source: The record file.
        path: Its index.
        index: The content of the index; None if the scan failed.
        outcome: "written", "replaced" or "unchanged" for the index; "failed" for the scan.
        error: Why it failed.
    """

    source: str
    path: Path
    index: RecordIndex | None
    outcome: str
    error: RecordFileError | OSError | None = None


def indexed_files(
    sources: list[str],
    index_dir: str | os.PathLike[str] | None = None,
    *,
    jobs: int = 1,
    say: Say,
) -> Generator[Scan, None, None]:
    """Scans record files and writes their indexes. A file that cannot be scanned keeps its index.

    Args:
        sources: The record files.
        index_dir: See `index_path`.
        jobs: Processes that scan. 1 scans in this process. Positive.
        say: Called with a line of progress every few seconds.

    Yields:
        What each scan found, as soon as it is complete and its index is on disk.

    Raises:
        OSError: If an index cannot be written.
        ImportError: If the package that computes checksums is not installed.
    """
    meter = _Meter(sources, say)
    jobs = min(jobs, len(sources))
    found = _scanned_here(sources, meter) if jobs == 1 else _scanned_by(jobs, sources, meter)
    with contextlib.closing(found):
        for source, result in found:
            meter.finished(source)
            path = index_path(source, index_dir)
            if isinstance(result, RecordIndex):
                yield Scan(source, path, result, _saved(path, result))
            else:
                yield Scan(source, path, None, "failed", result)


def _saved(path: Path, index: RecordIndex) -> str:
    """Writes an index, unless the same one is there. Returns what happened to it."""
    try:
        before = path.read_bytes()
    except OSError:
        before = None
    if before == index.to_bytes():
        return "unchanged"
    write_index(path, index)
    return "written" if before is None else "replaced"


def _scanned_here(sources: list[str], meter: _Meter) -> Generator[tuple[str, Result], None, None]:
    for source in sources:
        yield source, _result(source, lambda done, source=source: meter.read(source, done))  # type: ignore[misc]


def _scanned_by(
    jobs: int, sources: list[str], meter: _Meter
) -> Generator[tuple[str, Result], None, None]:
    """Scans with several processes; the largest files first, so that they end together."""
    left = sorted(sources, key=_size)
    processes: dict[Connection, Any] = {}
    busy: dict[Connection, str] = {}
    context = multiprocessing.get_context("spawn")
    try:
        for _ in range(jobs):
            here, there = context.Pipe()
            process = context.Process(target=_answer, args=(there,), daemon=True)
            process.start()
            there.close()
            processes[here] = process
            busy[here] = left.pop()
            here.send(busy[here])
        while busy:
            for connection in wait(list(busy), timeout=1.0):
                assert isinstance(connection, Connection)
                source = busy[connection]
                try:
                    answer = connection.recv()
                except (EOFError, OSError):
                    processes[connection].join()
                    raise OSError(
                        f"The process that scanned {source} ended with status "
                        f"{processes[connection].exitcode}. -9 is usually the system's: memory was "
                        "short. Run it again with a smaller --jobs."
                    ) from None
                if isinstance(answer, int):
                    meter.read(source, answer)
                    continue
                yield source, answer
                del busy[connection]
                if left:
                    busy[connection] = left.pop()
                    connection.send(busy[connection])
    finally:
        for connection, process in processes.items():
            process.kill()
            process.join()
            connection.close()


def _answer(connection: Connection) -> None:
    """Scans what it is sent, in a process. Ends when the other end of the pipe does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            connection.send(_result(connection.recv(), connection.send))


def _result(source: str, say: Callable[[int], None]) -> Result:
    try:
        return scanned(source, say)
    except ConnectionError:  # of `say`: the parent is gone
        raise
    except RecordFileError as error:
        return error
    except OSError as error:
        return OSError(
            f"{source} could not be read: {reason(error)}. Check its permissions and its disk."
        )


class _Meter:
    """Says from time to time how much was read."""

    def __init__(self, sources: list[str], say: Say) -> None:
        self._say = say
        self._sizes = {source: _size(source) for source in sources}
        self._read: dict[str, int] = {}
        self._finished = 0
        self._began = self._last = time.monotonic()

    def read(self, source: str, done: int) -> None:
        """Takes note of how many bytes of a file were read."""
        self._read[source] = done
        now = time.monotonic()
        if now - self._last < _PATIENCE_SECONDS:
            return
        self._last = now
        done, size = sum(self._read.values()), sum(self._sizes.values())
        speed = done / (now - self._began)
        self._say(
            f"indexed {self._finished} of {len(self._sizes)} files, {done >> 20} of {size >> 20} "
            f"MiB, {speed / 2**20:.0f} MiB/s; {max(size - done, 0) / speed:.0f} s left"
        )

    def finished(self, source: str) -> None:
        """Takes note that a file is complete, or has failed."""
        self._finished += 1
        self._read[source] = self._sizes[source]


def _size(source: str) -> int:
    try:
        return Path(source).stat().st_size
    except OSError:
        return 0
