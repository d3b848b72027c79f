"""The events of a running job. Producers put them on one queue, and the supervision takes them.

The queue is a `queue.SimpleQueue`, whose `put` is reentrant, so that a signal handler may call it.
"""

from __future__ import annotations

import contextlib
import math
import queue
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TypeAlias


@dataclass(frozen=True)
class WorkerExited:
    """A worker's process has ended. Other processes of its group may still run."""

    worker: int
    returncode: int
    at: float  # time.monotonic()


@dataclass(frozen=True)
class SignalReceived:
    """The launcher received a signal to stop."""

    number: int


@dataclass(frozen=True)
class OutputEnded:
    """The output of a worker has been passed on completely."""

    worker: int


@dataclass(frozen=True)
class OutputFailed:
    """The launcher cannot write its output, for instance after `| head`."""

    error: str


@dataclass(frozen=True)
class NameAnswered:
    """A host's name was looked up. `reason` is why it has no address, or None if it has one."""

    name: str
    reason: str | None


@dataclass(frozen=True)
class MessageArrived:
    """The rendezvous of an elastic job sent a message, one of `tfscale.launch.elastic.messages`."""

    message: object


@dataclass(frozen=True)
class ConnectionLost:
    """The connection to the rendezvous has ended."""

    reason: str


Event: TypeAlias = (
    WorkerExited
    | SignalReceived
    | OutputEnded
    | OutputFailed
    | NameAnswered
    | MessageArrived
    | ConnectionLost
)
Events: TypeAlias = "queue.SimpleQueue[Event]"


_SLICE_SECONDS = 1.0


def next_event(events: Events, deadline: float | None) -> Event | None:
    """Waits for the next event.

    It waits in slices. The kernel gives a signal to any thread, for instance to the first one that
    runs after a suspension, and Python handles it once the main thread runs: a wait without an end
    would keep it until the next event.

    Args:
        events: The queue.
        deadline: End of the wait, on the clock of `time.monotonic`. None waits without limit.

    Returns:
        The event, or None at the deadline.
    """
    while True:
        left = math.inf if deadline is None else max(0.0, deadline - time.monotonic())
        with contextlib.suppress(queue.Empty):
            return events.get(timeout=min(left, _SLICE_SECONDS))
        if left <= _SLICE_SECONDS:
            return None


@contextlib.contextmanager
def signals_as_events(events: Events) -> Iterator[None]:
    """Turns SIGINT, SIGTERM and SIGHUP into events, and restores the earlier handlers at the end.

    SIGHUP stays ignored if it was ignored before, as under `nohup`. Python runs signal handlers in
    the main thread only, so in other threads this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def record(number: int, _frame: FrameType | None) -> None:
        events.put(SignalReceived(number))

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, record) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: the handler was not installed by Python and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
