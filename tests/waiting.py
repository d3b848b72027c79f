"""Waits for something to become true, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from strategies.deadline import Deadline

Found = TypeVar("Found")


def until(
    find: Callable[[], Found], seconds: float, says: Callable[[], object], *, every: float = 0.05
) -> Found:
    """Asks again and again, until the answer is true, and returns it.

    Args:
        find: What is asked.
        seconds: Deadline.
        says: What the error says if the time is over.
        every: Seconds between two questions.
    """
    deadline = Deadline(seconds)
    while not (found := find()):
        assert not deadline.is_over(), says()
        time.sleep(every)
    return found
