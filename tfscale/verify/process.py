"""A child process of `tfscale verify`, with a deadline on each order."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strategies.extension import Deadline
from tfscale.verify.messages import Request
from tfscale.verify.worker_rpc import serve

_TAIL = 12
_NOISE = ("InitializeLog()", "oneDNN", "tfscale: ")


class Failed(Exception):
    """An order that came to nothing.

    Attributes:
        kind: "wrong" (usage), "refused", "raised", "crashed" or "hung".
        text: What the user should read.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class TrialProcess:
    """A Python of its own: TensorFlow's devices and the fixes of Keras belong to a process.

    Args:
        name: What it does, for sentences: "one device".
        request: What is to be verified.
        log: A file for what it prints; made anew.
        is_alone: Whether it is kept from knowing a cluster.
        say: Told what it is doing.
    """

    def __init__(
        self, name: str, request: Request, log: Path, is_alone: bool, say: Callable[[str], None]
    ) -> None:
        self._name = name
        self._seconds = request.timeout_seconds
        self._log = log
        self._say = say
        environment = {
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
            # Two processes may share the GPUs: none takes all of their memory.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            **({"TF_CONFIG": ""} if is_alone else {}),
        }
        context = multiprocessing.get_context("spawn")  # a fork would share what has started
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=serve, args=(other, request, str(log), environment), name=f"verify {name}"
        )
        self._process.start()
        other.close()

    def send(self, order: str, *arguments: Any) -> None:
        """Gives an order; `receive` waits for what comes of it."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `receive` tells of it
            self._connection.send((order, arguments))

    def receive(self) -> Any:
        """Returns the result of the order given last.

        Raises:
            Failed: If the child says so, ends, or takes longer than the deadline.
        """
        deadline = Deadline(self._seconds)
        while True:
            try:
                if not self._connection.poll(deadline.left()):
                    raise Failed("hung", f"{self._name}: longer than {self._seconds:g} s")
                kind, result = self._connection.recv()
            except (EOFError, ConnectionResetError):
                self._process.join(self._seconds)
                raise Failed("crashed", f"{self._name}: the process {self._end()}") from None
            if kind == "done":
                return result
            if kind != "said":
                raise Failed(kind, result)
            self._say(result)

    def ask(self, order: str, *arguments: Any) -> Any:
        """Gives an order and waits for it; see `send` and `receive`."""
        self.send(order, *arguments)
        return self.receive()

    def tail(self) -> list[str]:
        """The last lines that the child printed, without TensorFlow's start-up."""
        text = self._log.read_text("utf-8", errors="replace") if self._log.exists() else ""
        lines = [line for line in text.splitlines() if not any(word in line for word in _NOISE)]
        return [line for line in lines if line.strip()][-_TAIL:]

    def end(self) -> None:
        """Ends the child, whatever it does."""
        self._connection.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def _end(self) -> str:
        status = self._process.exitcode
        if status is not None and status < 0:
            return f"was killed by signal {-status}"
        return f"ended with status {status}"
