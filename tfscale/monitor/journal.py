"""The file of a worker: a line of JSON for everything that the callback Monitor records.

    monitor-0.jsonl     worker 0: {"event": "begin", ...}, {"event": "steps", ...}, {"event": "end"}

A restarted worker appends. A worker that is killed leaves at most its last line incomplete, and its
heartbeat (`heartbeat`), which the next one appends: {"event": "heartbeat", ...}.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import time
from pathlib import Path
from typing import Any

from tfscale.files.process_stat import process_stat

VERSION = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_AT_ONCE_SECONDS, _MOST_READINGS = 1e-4, 10


class Journal:
    """Appends lines to the file of a worker.

    Args:
        folder: A local folder, which is made if needed.
        worker: The worker's index, from 0.

    Raises:
        OSError: If the file cannot be written.
    """

    def __init__(self, folder: Path, worker: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = file_of(folder, worker)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(self._file).st_size
        self._is_cut = bool(size) and os.pread(self._file, 1, size - 1) != b"\n"

    def write(self, line: dict[str, Any]) -> None:
        """Writes a line of `stamped`, at once; NaN and infinity become null.

        Raises:
            OSError: See `append`.
        """
        try:
            text = json.dumps(line, allow_nan=False)
        except ValueError:
            text = json.dumps(_finite(line))
        self.append(text)

    def append(self, line: str) -> None:
        """Writes a line that is JSON already.

        Raises:
            OSError: If it cannot be written, such as on a full disk. Then no part of it is there.
            FileNotFoundError: If the file was removed.
        """
        content = f"{chr(10) * self._is_cut}{line}\n".encode()
        status = os.fstat(self._file)
        if status.st_nlink == 0 and not self.path.exists():
            raise FileNotFoundError(errno.ENOENT, "The file was removed", str(self.path))
        size = status.st_size
        try:
            while content:  # of a disk that is almost full a part is written
                content = content[os.write(self._file, content) :]
        except OSError:
            with contextlib.suppress(OSError):
                if os.fstat(self._file).st_size > size:
                    os.ftruncate(self._file, size)
            raise
        self._is_cut = False

    def close(self) -> None:
        """Ends writing."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def stamped(event: str, values: dict[str, Any]) -> dict[str, Any]:
    """Returns a line with the time.

    Args:
        event: "begin", "steps" or "end".
        values: JSON values by name.
    """
    return {"event": event, "time": time.time(), "clock": clock(), **values}


def local_folder(folder: str | os.PathLike[str]) -> Path:
    """Returns the absolute path of a folder.

    Raises:
        ValueError: If it is not local.
    """
    path = os.fspath(folder) if isinstance(folder, str | os.PathLike) else ""
    if not isinstance(path, str) or not path or "\0" in path or "://" in path:
        raise ValueError(
            "`folder` must be a path of a local folder, to which lines can be appended. Received: "
            f"folder={folder!r}. Pass one; files can be copied elsewhere when training has ended."
        )
    return Path(path).resolve()


def file_of(folder: Path, worker: int) -> Path:
    """Returns the path of a worker's file."""
    return folder / f"monitor-{worker}.jsonl"


def clock() -> float:
    """Returns seconds on a clock that no one sets, and that all processes of a host share."""
    # Not on macOS and Windows. There the clock stands still while the host sleeps.
    kind = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if kind is None else time.clock_gettime(kind)


def both_clocks(moment: float) -> tuple[float, float]:
    """Returns a moment of `time.monotonic`, which has just been, and `time.time` at that moment.

    The two clocks are read again if this thread stood still between them.
    """
    shortest, found = math.inf, 0.0
    for _ in range(_MOST_READINGS):
        began, wall, now = time.monotonic(), time.time(), time.monotonic()
        if now - began < shortest:
            shortest, found = now - began, wall - (now - moment)
        if shortest < _AT_ONCE_SECONDS:
            break
    return moment, found


def boot_id() -> str:
    """Returns what tells one start of a host from another one, and hosts apart, or ""."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def process_began(now: float) -> float:
    """Returns when this process was started, on `clock`; `now` where that cannot be read."""
    found = process_stat(os.getpid())
    return now if found is None else min(now, int(found[1]) / os.sysconf("SC_CLK_TCK"))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value
