"""The processes of one variant, seen from the race: starts them, warms them up, runs turns."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from strategies.extension import Deadline, environment_of_one_process
from tfscale.bench.peers.environment import (
    module_command,
    mpi_command,
    reason_missing,
    torch_command,
)
from tfscale.bench.variant import PROCESS_VARIABLE, Variant

# Until a process has connected, it is polled (seconds), because one that dies early sends nothing.
# After that, the closed connection shows that it has died.
_POLL_SECONDS = 0.2
_END_SECONDS = 15.0
_NOISE = ("InitializeLog()", "oneDNN", "tfscale: ", "=====", "-----", "*****")


class Failed(Exception):
    """Raised when a variant could not be timed.

    Attributes:
        is_wrong_usage: Whether the cause is the user's function or flags.
    """

    def __init__(self, text: str, is_wrong_usage: bool = False) -> None:
        super().__init__(text)
        self.is_wrong_usage = is_wrong_usage


class Missing(Failed):
    """Raised when something that a variant needs is not installed; the race goes on without it."""


class Settings(Protocol):
    """What the processes are given, such as a `Race`."""

    @property
    def timeout_seconds(self) -> float:
        """Deadline of start-up and of each turn. Positive."""

    def threads_of(self, processes: int) -> int:
        """Returns the threads of each of several processes."""

    def to_json(self) -> str:
        """Returns the last argument of the processes' command line."""


@dataclass(frozen=True)
class Turn:
    """What a turn took.

    Attributes:
        seconds: Wall time of the slowest process.
        processor_seconds: User and system time of all processes together.
    """

    seconds: float
    processor_seconds: float


@dataclass(frozen=True)
class Memory:
    """Memory of one process.

    Attributes:
        peak_bytes: Largest resident memory so far.
        resident_bytes: Resident memory at the end of the turn.
        device_bytes: Largest memory in use on its GPUs so far; 0 if it does not say.
    """

    peak_bytes: int
    resident_bytes: int
    device_bytes: int


class Contestant:
    """A variant's process, its independent processes, or its workers under a launcher.

    Args:
        variant: The variant.
        settings: What its processes are given.
        folder: Folder for its socket and log. Readable by this user only.

    Attributes:
        first_loss: The loss of the warm-up turn; NaN before.
        peak_bytes: Largest resident memory of one of its processes, after the last turn.
        memory: Memory of each process after the last turn.
    """

    def __init__(self, variant: Variant, settings: Settings, folder: Path) -> None:
        self.first_loss = math.nan
        self.peak_bytes = 0
        self.memory: list[Memory] = []
        self._name = variant.name
        self._seconds = settings.timeout_seconds
        self._count = variant.processes
        self._missing = reason_missing(variant.requires) if variant.requires else ""
        self._lines: list[tuple[socket.socket, Any]] = []
        self._log = folder / f"{variant.name}.log"
        address = folder / variant.name
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(address))
        self._listener.listen(self._count)
        self._ready = Deadline(self._seconds)
        # A launcher starts its workers itself.
        number = 1 if variant.num_workers else variant.num_processes
        with self._log.open("ab") as log:
            self._processes = [
                subprocess.Popen(
                    command_of(variant, settings, address),
                    env={**environment_of(os.environ), PROCESS_VARIABLE: str(index)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                for index in range(0 if self._missing else number)
            ]

    def wait_until_ready(self) -> None:
        """Waits until every process has taken its first steps.

        Raises:
            Missing: If the variant needs something that is not installed.
            Failed: If a process ends, or the deadline passes.
        """
        if self._missing:
            raise Missing(self._missing)
        self._listener.settimeout(_POLL_SECONDS)
        while len(self._lines) < self._count and not self._ready.is_over():
            with contextlib.suppress(TimeoutError):
                line, _ = self._listener.accept()
                self._lines.append((line, line.makefile("r", encoding="utf-8")))
                continue
            if self._has_lost_one():
                self._accept_those_that_wait()
                for line, messages in self._lines:  # one of them may have said why
                    line.settimeout(_POLL_SECONDS)
                    self._receive(messages)
                raise Failed(self._sentence(self._end_of_process()))
        if len(self._lines) < self._count:
            raise Failed(self._sentence(f"not ready after {self._seconds:g} s"))
        for line, messages in self._lines:
            line.settimeout(max(_POLL_SECONDS, self._ready.left()))
            self.first_loss = float(self._receive(messages)["loss"])

    def _accept_those_that_wait(self) -> None:
        """Accepts the processes that have connected since the last look, and may have ended."""
        self._listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                line, _ = self._listener.accept()
                self._lines.append((line, line.makefile("r", encoding="utf-8")))

    def take_turn(self) -> Turn:
        """Runs one turn in all processes and returns the time that it took.

        Raises:
            Failed: If a process fails, or takes longer than the deadline.
        """
        for line, _ in self._lines:
            line.settimeout(self._seconds)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # reported below
                line.sendall(b"go\n")
        answers = [self._receive(messages) for _, messages in self._lines]
        self.memory = [
            Memory(answer["peak_bytes"], answer["resident_bytes"], answer["device_bytes"])
            for answer in answers
        ]
        self.peak_bytes = max(memory.peak_bytes for memory in self.memory)
        return Turn(
            max(float(answer["seconds"]) for answer in answers),
            sum(float(answer["processor_seconds"]) for answer in answers),
        )

    def end(self) -> None:
        """Ends the processes, with SIGKILL if needed."""
        for line, messages in self._lines:
            messages.close()
            line.close()
        self._listener.close()
        # On SIGTERM a launcher ends its workers within one second.
        for number in (signal.SIGTERM, signal.SIGKILL):
            running = [process for process in self._processes if process.poll() is None]
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_END_SECONDS)

    def _receive(self, messages: Any) -> dict[str, Any]:
        try:
            text = messages.readline()
        except TimeoutError:
            raise Failed(self._sentence(f"no answer in {self._seconds:g} s")) from None
        except ConnectionResetError:
            text = ""
        if not text:
            end = Deadline(_END_SECONDS)
            while not self._has_lost_one() and not end.is_over():
                time.sleep(_POLL_SECONDS)
            raise Failed(self._sentence(self._end_of_process()))
        message: dict[str, Any] = json.loads(text)
        if message["kind"] == "missing":
            raise Missing(message["text"])
        if message["kind"] in ("wrong", "failed"):
            raise Failed(f"{self._name}: {message['text']}", message["kind"] == "wrong")
        return message

    def _has_lost_one(self) -> bool:
        return any(process.poll() is not None for process in self._processes)

    def _end_of_process(self) -> str:
        codes = [process.returncode for process in self._processes]
        status = next((code for code in codes if code is not None), None)
        if status is not None and status < 0:
            return f"the process was killed by signal {-status}"
        return f"the process ended with status {status}"

    def _sentence(self, what: str) -> str:
        printed = self._log.read_text("utf-8", errors="replace")
        return f"{self._name}: {what}. Last line printed: {last_line(printed)}"


def last_line(printed: str) -> str:
    r"""Returns the last line of an output that says something, or "none".

    Example:
        >>> last_line("out of memory\n=======\n")
        'out of memory'
    """
    lines = [line for line in printed.splitlines() if line.strip()]
    said = [line for line in lines if not any(noise in line for noise in _NOISE)]
    return said[-1] if said else "none"


def command_of(variant: Variant, settings: Settings, address: Path) -> list[str]:
    """Returns the command that starts a process of a variant, or the launcher of its workers.

    Args:
        variant: The variant.
        settings: What its processes are given.
        address: Where they report to: a socket, or a folder.
    """
    count, program = variant.num_workers, variant.program
    threads = settings.threads_of(variant.processes)
    arguments = [str(address), variant.name, str(count), str(threads), settings.to_json()]
    if variant.requires and not count:
        return module_command(program, arguments)
    if variant.requires == "torch":
        return torch_command(count, program, arguments)
    if variant.requires:
        return mpi_command(count, program, arguments)
    child = [sys.executable, "-m", program, *arguments]
    if not count:
        return child
    launch = ["-m", "tfscale", "launch", f"--num_workers={count}", "--grace_seconds=1"]
    return [sys.executable, *launch, "--", *child]


def environment_of(own: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of the processes of all variants.

    Args:
        own: The environment of this process.
    """
    return {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **environment_of_one_process(own),
        "PYTHONUNBUFFERED": "1",
        # All variants run at once and share the GPUs, so none may take all of the GPU memory.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
