"""Who writes the file of a worker: two processes at once would mix their lines.

    running-0.json    {"host": ..., "boot": ..., "pids": ..., "process": 123, "ticks": 45678}

The file is there while a `fit` runs. A process that is killed leaves it, and the next one sees that
it has ended: by its number and the moment of its start, which no other process has. A process that
cannot be seen, because it is on another host or in another container, writes if its heartbeat
changes. No lock is held meanwhile, so a child that was forked holds none.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strategies.extension import Deadline, announce
from tfscale.files.plain_files import read_plain
from tfscale.files.process_stat import process_stat
from tfscale.monitor.heartbeat import file_of as heartbeat_of
from tfscale.monitor.journal import boot_id, file_of

_LOOK_SECONDS = 2.0
"""In which a heartbeat changes, which is written ten times a second."""
_LOCK_SECONDS = 10.0
_POLL_SECONDS = 0.05
_PIDS = Path("/proc/self/ns/pid")


class Claim:
    """Holds the file of a worker for this process until it is released.

    Args:
        folder: The folder of Monitor, which exists.
        worker: The worker's index.

    Raises:
        ValueError: If another process writes that file now.
        OSError: If the folder cannot be written, other than for want of room.
    """

    def __init__(self, folder: Path, worker: int) -> None:
        self._path = folder / f"running-{worker}.json"
        self._own = {
            "host": platform.node(),
            "boot": boot_id(),
            "pids": _pid_namespace(),
            "process": os.getpid(),
            "ticks": _ticks(os.getpid()),
            "since": time.time(),
        }
        with _one_at_a_time(file_of(folder, worker)):
            other = self._read()
            if other is not None and _is_writing(other, folder, worker):
                since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(other["since"]))
                raise ValueError(
                    "`folder` must be used by one run at a time. Received: folder="
                    f"{str(folder)!r}, where process {other['process']} on {other['host']} writes "
                    f"the lines of worker {worker} since {since}. Give each run a folder of its "
                    "own, or wait until that process has ended."
                )
            try:
                # Without waiting for the reader of a FIFO.
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
                with os.fdopen(os.open(self._path, flags, 0o644), "w", encoding="utf-8") as file:
                    json.dump(self._own, file)
            except OSError as error:
                announce(
                    f"Monitor cannot write {self._path.name}: {error.strerror}. Start no other run "
                    "with its folder until this one has ended."
                )

    def release(self) -> None:
        """Lets another process write."""
        with contextlib.suppress(OSError):
            if self._read() == self._own and self._own["process"] == os.getpid():
                self._path.unlink()

    def _read(self) -> dict[str, Any] | None:
        """Returns who has claimed the file; None without anyone, or if that was cut off."""
        try:
            found = json.loads(read_plain(self._path))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        is_whole = isinstance(found, dict) and self._own.keys() == found.keys()
        numbers = [found[name] for name in ("process", "since")] if is_whole else [None]
        return found if all(type(each) in (int, float) for each in numbers) else None


def _is_writing(other: dict[str, Any], folder: Path, worker: int) -> bool:
    is_seen = other["boot"] == boot_id() != "" and other["pids"] == _pid_namespace() != ""
    if is_seen:
        is_this = other["process"] == os.getpid()
        return not is_this and other["ticks"] == _ticks(int(other["process"])) is not None
    return _beats(heartbeat_of(folder, worker))


def _beats(path: Path) -> bool:
    """Tells whether a heartbeat changes."""
    deadline, first = Deadline(_LOOK_SECONDS), _content(path)
    while first is not None and not deadline.is_over():
        time.sleep(_POLL_SECONDS)
        if _content(path) not in (first, None):
            return True
    return False


def _content(path: Path) -> bytes | None:
    try:
        return read_plain(path)
    except (OSError, ValueError):
        return None


def _ticks(process: int) -> int | None:
    """Returns when a process was started, in the kernel's ticks; None if it has ended."""
    state, ticks = process_stat(process) or ("X", "0")
    return None if state in "ZX" else int(ticks)


def _pid_namespace() -> str:
    """Returns what tells the numbers of processes in a container from those outside, or ""."""
    try:
        return str(_PIDS.readlink())
    except OSError:
        return ""


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Lets one process of those that begin at the same moment be the first."""
    import fcntl  # POSIX only

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = Deadline(_LOCK_SECONDS)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if deadline.is_over():
                    raise TimeoutError(
                        f"`folder` must be free for a moment. Received: {str(path)!r}, which "
                        f"another process has locked for {_LOCK_SECONDS:g} s. Give each run a "
                        "folder of its own."
                    ) from None
                time.sleep(_POLL_SECONDS)
            except OSError:
                break  # a file system without locks: the first of two is not known
        yield
    finally:
        # For a child too that was forked meanwhile.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
