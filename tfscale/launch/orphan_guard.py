"""A process that kills the workers' process groups if the launcher is killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

_PROGRAM = Path(__file__).with_name("kill_orphans.py")


class OrphanGuard:
    """Runs kill_orphans.py for the duration of the context.

    On Linux the kernel kills each worker when the launcher dies (exec_tied.py), but not the
    processes that the worker started: with `-- bash train.sh` that is the training itself. The
    guard kills them, on every POSIX system. If the guard is killed too, the kernel still kills the
    workers.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # -I and -S: no site-packages and no PYTHON* variables, so that it starts in 15 ms.
            [sys.executable, "-I", "-S", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            # Not the launcher's, which would then stay open for its reader after the launcher dies.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # Keeps the guard from the terminal's Ctrl-C and from a `kill` of the launcher's group.
            start_new_session=True,
        )

    def add(self, group: int) -> None:
        """Adds a process group."""
        self._write(f"{group}\n")

    def discard(self, group: int) -> None:
        """Removes a process group that has ended, because its number may be reused."""
        self._write(f"-{group}\n")

    def __enter__(self) -> OrphanGuard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10.0)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        # A broken pipe means that the guard was killed. That is no reason to end a healthy job.
        with contextlib.suppress(BrokenPipeError):
            # One write shorter than PIPE_BUF is atomic, so the guard always reads whole lines.
            os.write(self._process.stdin.fileno(), line.encode())
