"""What can happen while workers run; producers put events on one queue, the supervision takes them.

The queue is a `queue.SimpleQueue`: its `put` may interrupt itself, so a signal handler may call it.
"""

from __future__ import annotations

import contextlib
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
    """A worker's own process has ended; others of its group may live on."""

    worker: int
    returncode: int
    at: float  # time.monotonic()


@dataclass(frozen=True)
class SignalReceived:
    """The launcher was asked to stop."""

    number: int


@dataclass(frozen=True)
class OutputEnded:
    """All that a worker wrote has been passed on."""

    worker: int


@dataclass(frozen=True)
class OutputFailed:
    """The launcher's own output cannot be written, for instance after `| head`."""

    error: str


@dataclass(frozen=True)
class NameAnswered:
    """A host's name was looked up; `reason` says why it has no address, None that it has one."""

    name: str
    reason: str | None


Event: TypeAlias = WorkerExited | SignalReceived | OutputEnded | OutputFailed | NameAnswered
Events: TypeAlias = "queue.SimpleQueue[Event]"


def next_event(events: Events, deadline: float | None) -> Event | None:
    """Waits for an event until `deadline` on the clock of `time.monotonic`; None: without end.

    Returns:
        The event, or None where the deadline has come first.
    """
    try:
        if deadline is None:
            return events.get()
        return events.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        return None


@contextlib.contextmanager
def signals_as_events(events: Events) -> Iterator[None]:
    """Turns SIGINT, SIGTERM and SIGHUP to this process into events, then puts back what was there.

    SIGHUP (the terminal is gone) is left alone where it is ignored: that is what `nohup` is for.
    Python runs handlers in the main thread only, so in another thread nothing is changed.
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
            # None: the handler was not installed from Python and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
