"""What a job leaves behind: processes, ports and files. Linux alone tells all of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

MARK = "TFSCALE_FAULTS_JOB"
"""A variable that every process of a job inherits, whatever session it moves to."""
GONE_SECONDS = 30.0
_POLL_SECONDS = 0.05
_LISTENING = "0A"
_LEASE = ".lease-"
_AUTOGRAPH = "__autograph_generated_file"
"""TensorFlow's, which a process that is killed cannot remove."""


def marked_environment(mark: str) -> dict[str, str]:
    """Returns the environment for the processes of a job.

    Args:
        mark: Tells this job from all others.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in ("TF_CONFIG", "TFSCALE_RESTART")}
    return {
        **inherited,
        MARK: mark,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
    }


def processes(mark: str) -> list[int]:
    """Returns the processes of a job that are there, zombies not counted.

    Args:
        mark: Its mark, or a folder in which the marks of several jobs lie.
    """
    if sys.platform != "linux":
        return []
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            variables = (folder / "environ").read_bytes().split(b"\0")
            if any(v == wanted or v.startswith(wanted + b"/") for v in variables):
                found.append(int(folder.name))
    return found


def end_all(mark: str) -> list[int]:
    """Kills what is left of a job, and waits until it is gone.

    Returns:
        The processes that were there.

    Raises:
        TimeoutError: If one is there after 30 s.
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
    """Returns those of some ports of this host on which somebody listens."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text("ascii").splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == _LISTENING:
                    found.add(int(local.rpartition(":")[2], 16))
    return sorted(found & ports)


def files(folder: Path) -> list[str]:
    """Returns what a writer has not cleared away: hidden names, parts, and temporary files.

    Not the lease of a checkpoint folder that its job has given back: where it has replaced one of
    a killed process, it stays as the record of that.
    """
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if (path.name.startswith(".") and not _is_given_back(path))
        or path.suffix == ".part"
        or (path.parent.name == "tmp" and not path.name.startswith(_AUTOGRAPH))
    )


def _is_given_back(path: Path) -> bool:
    if not path.name.startswith(_LEASE):
        return False
    return bool(json.loads(path.read_text("utf-8"))["state"] == "released")
