"""One worker of a local job: its process, its process group, and the deadlines for ending it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfscale.launch.events import Events, WorkerExited

_PROGRAM = Path(__file__).with_name("exec_tied.py")
# No event reports the end of a process group, so it is polled, seconds apart.
_GROUP_POLL_SECONDS = 0.02
# A killed process with a hundred gigabytes of memory, or in a driver, takes seconds to end.
_KILLED_WORKER_SECONDS = 30.0
# After this, only zombies can be left of a killed group, which init should have collected.
_KILLED_GROUP_SECONDS = 2.0


class WorkerProcess:
    """Starts a command as the leader of a new session, without standard input.

    The process group contains everything that the worker started, except processes that moved to
    another session. `stop` sets a deadline. `advance` enforces it, and must be called at every
    `next_deadline` and after every event.

    Args:
        index: Index of the worker.
        command: Program and arguments.
        environment: The complete environment of the worker.
        output: Descriptor for the worker's standard output and standard error.
        events: Receives `WorkerExited`.
        inherited: Descriptors of this process that the worker has too.

    Attributes:
        returncode: How the worker itself ended, as in `subprocess`; None while it runs.
        ended: Whether the worker and its group have ended, or have survived SIGKILL for too long.
    """

    def __init__(
        self,
        index: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: int,
        events: Events,
        inherited: Sequence[int] = (),
    ) -> None:
        self.index = index
        self.returncode: int | None = None
        self.ended = False
        self.started = time.monotonic()
        self._kill_at: float | None = None
        self._killed_at: float | None = None
        self._process = subprocess.Popen(
            # -I and -S: the user's PYTHON* variables are meant for the command, not this program.
            [sys.executable, "-I", "-S", str(_PROGRAM), str(os.getpid()), *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=inherited,
        )
        self._events = events
        threading.Thread(target=self._wait, name=f"end of worker {index}", daemon=True).start()

    @property
    def group(self) -> int:
        """Number of the process group, which is the worker's process id."""
        return self._process.pid

    def stop(self, signal_number: int, kill_at: float) -> None:
        """Sends a signal to the group and sets the time of SIGKILL, or moves it forward.

        Args:
            signal_number: The signal.
            kill_at: Time of SIGKILL, on the clock of `time.monotonic`.
        """
        self._signal_group(signal_number)
        self._kill_at = kill_at if self._kill_at is None else min(kill_at, self._kill_at)

    def advance(self, now: float) -> None:
        """Notices that the group has ended, kills it if due at `now`, or gives it up."""
        if self.returncode is not None and self._group_is_gone():
            self.ended = True
        elif self._killed_at is not None:
            self.ended = now >= self._killed_at + self._patience
        elif self._kill_at is not None and now >= self._kill_at:
            self._signal_group(signal.SIGKILL)
            self._killed_at = now

    def next_deadline(self, now: float) -> float | None:
        """Returns when `advance` must be called next, or None if only after an event."""
        if self.returncode is not None:
            return now + _GROUP_POLL_SECONDS
        if self._killed_at is not None:
            return self._killed_at + self._patience
        return self._kill_at

    @property
    def _patience(self) -> float:
        return _KILLED_WORKER_SECONDS if self.returncode is None else _KILLED_GROUP_SECONDS

    def _wait(self) -> None:
        returncode = self._process.wait()
        self._events.put(WorkerExited(self.index, returncode, time.monotonic()))

    def _signal_group(self, number: int) -> None:
        # The number cannot belong to another group yet: the kernel keeps it while one member lives,
        # and reuses it only after all other process ids.
        try:
            os.killpg(self.group, number)
        except (ProcessLookupError, PermissionError):
            # The group has ended, has only zombies (macOS), or its command changed its user.
            return

    def _group_is_gone(self) -> bool:
        try:
            # Collects orphans if this process is init, as in a container.
            while os.waitpid(-self.group, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        try:
            os.killpg(self.group, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
