"""Reads files in this process or in several, with progress in bytes.

    for path, result in each_file(scanned, paths, jobs=2, say=say, done="indexed"):
        ...

The processes only read, so they can be killed at any time. They import the module of the function
and no more; keep TensorFlow out of it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from tfscale.files import reason
from tfscale.records.index import RecordFileError

Say = Callable[[str], None]
SayRead = Callable[[int], None]
Found = TypeVar("Found")
_Error = RecordFileError | OSError | ImportError

_PATIENCE_SECONDS = 3.0


def each_file(
    work: Callable[[str, SayRead], Found],
    paths: Sequence[str],
    *,
    jobs: int,
    say: Say,
    done: str,
) -> Generator[tuple[str, Found | RecordFileError | OSError], None, None]:
    """Calls a function with each file.

    Args:
        work: Takes a path, and a function that it calls now and then with the number of bytes read
            so far. With several processes, one that can be pickled.
        paths: The files.
        jobs: Processes. 1 works in this process. Positive.
        say: Called with a line of progress every few seconds.
        done: What has happened to a file, such as "indexed".

    Yields:
        Each file with its result, as soon as it is known. A `RecordFileError` or an `OSError` that
        `work` raises is the result of its file.

    Raises:
        OSError: If a process was killed.
        ImportError: If `work` raises it.
    """
    meter = _Meter(paths, say, done)
    jobs = min(jobs, len(paths))
    found = _here(work, paths, meter) if jobs <= 1 else _by_processes(work, jobs, paths, meter)
    with contextlib.closing(found):
        for path, result in found:
            if isinstance(result, ImportError):
                raise result
            meter.finished(path)
            yield path, result


def _here(
    work: Callable[[str, SayRead], Found], paths: Sequence[str], meter: _Meter
) -> Generator[tuple[str, Found | _Error], None, None]:
    for path in paths:
        yield path, _result(work, path, lambda done, path=path: meter.read(path, done))  # type: ignore[misc]


def _by_processes(
    work: Callable[[str, SayRead], Found], jobs: int, paths: Sequence[str], meter: _Meter
) -> Generator[tuple[str, Any], None, None]:
    """Works in several processes; the largest files first, so that they end together."""
    left = sorted(paths, key=_size)
    processes: dict[Connection, Any] = {}
    busy: dict[Connection, str] = {}
    context = multiprocessing.get_context("spawn")
    try:
        for _ in range(jobs):
            here, there = context.Pipe()
            process = context.Process(target=_answer, args=(there, work), daemon=True)
            process.start()
            there.close()
            processes[here] = process
            busy[here] = left.pop()
            here.send(busy[here])
        while busy:
            for connection in wait(list(busy), timeout=1.0):
                assert isinstance(connection, Connection)
                path = busy[connection]
                try:
                    answer = connection.recv()
                except (EOFError, OSError):
                    processes[connection].join()
                    raise OSError(
                        f"The process that read {path} ended with status "
                        f"{processes[connection].exitcode}. -9 is usually the system's: memory was "
                        "short. Run it again with a smaller --jobs."
                    ) from None
                if isinstance(answer, int):
                    meter.read(path, answer)
                    continue
                yield path, answer
                del busy[connection]
                if left:
                    busy[connection] = left.pop()
                    connection.send(busy[connection])
    finally:
        for connection, process in processes.items():
            process.kill()
            process.join()
            connection.close()


def _answer(connection: Connection, work: Callable[[str, SayRead], Any]) -> None:
    """Works on what it is sent, in a process. Ends when the other end of the pipe does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            connection.send(_result(work, connection.recv(), connection.send))


def _result(work: Callable[[str, SayRead], Found], path: str, say: SayRead) -> Found | _Error:
    try:
        return work(path, say)
    except ConnectionError:  # of `say`: the parent is gone
        raise
    except (RecordFileError, ImportError) as error:
        return error
    except OSError as error:
        return OSError(
            f"{path} could not be read: {reason(error)}. Check its permissions and its disk."
        )


class _Meter:
    """Says from time to time how much was read."""

    def __init__(self, paths: Sequence[str], say: Say, done: str) -> None:
        self._say = say
        self._done = done
        self._sizes = {path: _size(path) for path in paths}
        self._read: dict[str, int] = {}
        self._finished = 0
        self._began = self._last = time.monotonic()

    def read(self, path: str, done: int) -> None:
        """Takes note of how many bytes of a file were read."""
        self._read[path] = done
        now = time.monotonic()
        if now - self._last < _PATIENCE_SECONDS:
            return
        self._last = now
        done, size = sum(self._read.values()), sum(self._sizes.values())
        speed = done / (now - self._began)
        self._say(
            f"{self._done} {self._finished} of {len(self._sizes)} files, {done >> 20} of "
            f"{size >> 20} MiB, {speed / 2**20:.0f} MiB/s; "
            f"{max(size - done, 0) / speed:.0f} s left"
        )

    def finished(self, path: str) -> None:
        """Takes note that a file is complete, or has failed."""
        self._finished += 1
        self._read[path] = self._sizes[path]


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
