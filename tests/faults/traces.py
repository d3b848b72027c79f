"""What a job leaves behind: processes, ports and files. Complete on Linux only."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

_MARK = "TFSCALE_FAULTS_JOB"
"""A variable that every process of a job inherits, also one that moves to another session."""
GONE_SECONDS = 30.0
_POLL_SECONDS = 0.05
_LISTENING = "0A"
_LEASE = ".lease-"
_AUTOGRAPH = "__autograph_generated_file"
"""A file of TensorFlow's, which a killed process cannot remove."""


def marked(mark: str) -> dict[str, str]:
    """Returns the variables by which the processes of a job are found.

    Args:
        mark: Differs from the marks of all other jobs.
    """
    return {
        _MARK: mark,
        "PYTHONUNBUFFERED": "1",
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
    }


def processes(mark: str) -> list[int]:
    """Returns the processes of a job that exist, without zombies.

    Args:
        mark: Its mark, or a folder that contains the marks of several jobs.
    """
    if sys.platform != "linux":
        return []
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            variables = (folder / "environ").read_bytes().split(b"\0")
            if any(v == wanted or v.startswith(wanted + b"/") for v in variables):
                found.append(int(folder.name))
    return found


def end_all(mark: str) -> list[int]:
    """Kills the remaining processes of a job, and waits until they have ended.

    Returns:
        The processes that existed.

    Raises:
        TimeoutError: If one still exists after 30 s.
    """
    first = found = processes(mark)
    deadline = time.monotonic() + GONE_SECONDS
    while found:
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError(f"SIGKILL did not end {found} within {GONE_SECONDS:g} s.")
        time.sleep(_POLL_SECONDS)
        found = processes(mark)
    return first


def listening(ports: set[int]) -> list[int]:
    """Returns those of some ports of this host on which a process listens."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text("ascii").splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == _LISTENING:
                    found.add(int(local.rpartition(":")[2], 16))
    return sorted(found & ports)


def files(folder: Path) -> list[str]:
    """Returns what a writer has not removed: hidden names, parts, and temporary files.

    A lease of a checkpoint folder that its job has released does not count: one that has replaced
    the lease of a killed process stays as the record of that.
    """
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if (path.name.startswith(".") and not _is_released(path))
        or path.suffix == ".part"
        or (path.parent.name == "tmp" and not path.name.startswith(_AUTOGRAPH))
    )


def _is_released(path: Path) -> bool:
    if not path.name.startswith(_LEASE):
        return False
    return bool(json.loads(path.read_text("utf-8"))["state"] == "released")
