"""A real job: a command, its lines with their times, and the end of all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from tests.faults.injections import SIGNAL
from tests.faults.lines import START_LINE
from tests.faults.traces import end_all, marked, processes
from tests.faults.training import Training
from tests.programs import ROOT, own_environment

START_SECONDS = 300.0
"""To import TensorFlow and start the cluster, on a busy machine."""
READ_SECONDS = 10.0
_WORKER = r"^(?:\[worker (\d+)\] )?"


@dataclass(frozen=True)
class Line:
    """A line of output.

    Attributes:
        at: When it arrived, on the clock of `time.monotonic`.
        text: The line, with the launcher's `[worker i] ` where there is one.
    """

    at: float
    text: str


class Job:
    """Starts a command; as a context manager it ends all processes that the command started.

    Args:
        command: What to run.
        mark: By which its processes are found; several jobs may have the same one.
        environment: Additional variables.
    """

    def __init__(
        self, command: Sequence[str], mark: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.mark = mark
        self.lines: list[Line] = []
        self._changed = threading.Condition()
        self._is_over = False
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=own_environment(**marked(mark), **(environment or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end_all(self.mark)
        self._process.wait(timeout=30.0)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            with self._changed:
                self.lines.append(Line(time.monotonic(), text.rstrip("\n")))
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def await_line(self, pattern: str, seconds: float = START_SECONDS, after: float = 0.0) -> Line:
        """Returns the first line with a pattern.

        Args:
            pattern: A regular expression.
            seconds: Deadline.
            after: Earlier lines do not count; on the clock of `time.monotonic`.

        Raises:
            TimeoutError: If none came in time, or the output ended without one.
        """
        deadline, seen = time.monotonic() + seconds, 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if line.at >= after and re.search(pattern, line.text):
                        return line
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if self._is_over or left <= 0:
                    said = "\n".join(line.text for line in self.lines[-15:])
                    raise TimeoutError(f"No line with {pattern!r} in {seconds:g} s. Last:\n{said}")
                self._changed.wait(left)

    def wait(self, seconds: float) -> int | None:
        """Returns the exit status after the last line, or None at the deadline."""
        try:
            status = self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(timeout=READ_SECONDS)
        return status

    def signal(self, worker: int, number: int) -> bool:
        """Sends a signal to a worker's newest process; returns whether it existed.

        Args:
            worker: Index of the worker.
            number: The signal.
        """
        process = self.process(worker)
        if process not in processes(self.mark):  # its id may belong to another process by now
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
            return True
        return False

    def interrupt(self) -> None:
        """Sends SIGINT to the command only, as a terminal does to a launcher."""
        self._process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Sends SIGTERM to the command only."""
        self._process.terminate()

    def kill(self) -> None:
        """Sends SIGKILL to the command only."""
        self._process.kill()

    def process(self, worker: int) -> int:
        """Returns a worker's newest process, which may have ended."""
        return {index: process for index, process, _ in self._starts()}[worker]

    def ports(self) -> set[int]:
        """Returns the ports of all starts of its workers."""
        found: set[int] = set()
        for _, _, config in self._starts():
            for addresses in json.loads(config or "{}").get("cluster", {}).values():
                found |= {int(address.rpartition(":")[2]) for address in addresses}
        return found

    def _starts(self) -> list[tuple[int, int, str]]:
        with self._changed:
            lines = [line.text for line in self.lines]
        matches = (re.match(_WORKER + START_LINE + r"(\d+) (.*)", line) for line in lines)
        return [(int(match[1] or 0), int(match[2]), match[3]) for match in matches if match]


def program(training: Training) -> list[str]:
    """Returns the command of one worker."""
    return [sys.executable, "-m", "tests.faults.program", training.to_json()]


def launcher(training: Training, *flags: str) -> list[str]:
    """Returns the command of a supervised job.

    Args:
        training: What its workers train.
        *flags: Of `tfscale launch`; if none, two workers and three restarts.
    """
    flags = flags or ("--num_workers=2", "--max_restarts=3")
    usual = ["--grace_seconds=5", "--early_seconds=0"]
    return [sys.executable, "-m", "tfscale", "launch", *usual, *flags, "--", *program(training)]


KILL, STOP, GO_ON, TERMINATE, INTERRUPT, CRASH, INJECT = (
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGCONT,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGSEGV,
    SIGNAL,
)
"""Signals to a worker; the last one makes the program do its fault."""
