"""Real launchers in separate processes, and ways to wait for the end of any process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tfscale.launch
from tests.programs import prepared

_ROOT = Path(tfscale.launch.__file__).parents[2]
_DEADLINE = 120.0


def python(code: str, *arguments: str) -> list[str]:
    """A command that runs `code`, without site-packages: workers start in 20 ms."""
    return [sys.executable, "-S", "-c", code, *arguments]


def wait_until_gone(pid: int) -> None:
    """Returns when the process has ended; fails after a deadline."""
    deadline = time.monotonic() + _DEADLINE
    if hasattr(os, "pidfd_open"):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        ended = poll.poll(_DEADLINE * 1000)
        os.close(descriptor)
        assert ended, f"process {pid} lives on"
        return
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} lives on")


class Launcher:
    """A `tfscale launch` that runs beside the test, `before` which a statement may be run."""

    def __init__(self, command: list[str], before: str = "", **popen: Any) -> None:
        whole = [sys.executable, "-m", "tfscale", "launch", *command]
        # A buffered standard output, as users have it, whatever the tests themselves run with.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        self.process = subprocess.Popen(
            prepared(before, *whole) if before else whole,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen},
            env={**environment, "PYTHONPATH": str(_ROOT)},
        )
        self._unread = b""

    def read_lines(self, count: int) -> list[str]:
        """The next lines of its output, however long they take up to a deadline."""
        deadline = time.monotonic() + _DEADLINE
        assert self.process.stdout is not None
        while self._unread.count(b"\n") < count:
            left = deadline - time.monotonic()
            assert select.select([self.process.stdout], [], [], max(0.0, left))[0], self._unread
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
            assert chunk, f"the output ended after {self._unread!r}"
            self._unread += chunk
        *lines, rest = self._unread.split(b"\n", count)
        self._unread = rest
        return [line.decode() for line in lines]

    def read_pids(self, count: int) -> list[int]:
        """The numbers at the ends of the next lines."""
        return [int(line.split()[-1]) for line in self.read_lines(count)]

    def finish(self) -> tuple[int, str, str]:
        """Exit status, standard output and standard error, when it has ended."""
        output, errors = self.process.communicate(timeout=_DEADLINE)
        return (
            self.process.returncode,
            (self._unread + (output or b"")).decode(),
            (errors or b"").decode(),
        )


@pytest.fixture
def launch() -> Iterator[Callable[..., Launcher]]:
    # Python installs its SIGINT handler only where SIGINT is not ignored, and a background job of
    # a shell, as a CI may start the tests, has it ignored, and one under nohup SIGHUP: children
    # would have it so as well.
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    launchers: list[Launcher] = []

    def start(*command: str, **popen: Any) -> Launcher:
        launchers.append(Launcher(list(command), **popen))
        return launchers[-1]

    yield start
    for number, handler in before.items():
        signal.signal(number, handler)
    for launcher in launchers:
        with contextlib.suppress(ProcessLookupError):
            launcher.process.kill()
        launcher.process.communicate(timeout=_DEADLINE)


@pytest.fixture(name="python")
def python_command() -> Callable[..., list[str]]:
    return python


@pytest.fixture
def until_gone() -> Callable[[int], None]:
    return wait_until_gone
