"""Calls that may block without end, in threads that are left behind at a deadline.

A name server that is gone, or a network file system without its server, blocks a call in the
kernel: nothing but the end of the process ends it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from strategies.extension import Deadline

_NAME = "tfscale doctor"
_Result = TypeVar("_Result")


def within(seconds: float, act: Callable[[], _Result]) -> _Result:
    """Returns what a call returns, or raises TimeoutError; the thread of the call stays behind.

    Args:
        seconds: Deadline.
        act: The call. An OSError that it raises is raised here.
    """
    done: list[_Result] = []
    failed: list[OSError] = []

    def work() -> None:
        try:
            done.append(act())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=work, name=_NAME, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError
    return done[0]


def each_within(seconds: float, act: Callable[[str], None], names: Iterable[str]) -> None:
    """Calls `act` with each name at the same time, and waits until all have ended or time is over.

    Args:
        seconds: Deadline of all together.
        act: The call. What it finds it stores itself.
        names: What it is called with.
    """
    deadline = Deadline(seconds)
    threads = [
        threading.Thread(target=act, args=(name,), name=_NAME, daemon=True) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(deadline.left())
