"""Measures again if the machine stopped this process meanwhile.

Shares of time are known only in a process that runs: a machine that keeps it from running for a
second in the middle of a step makes the step longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

Found = TypeVar("Found")

LATE_SECONDS = 0.05
_ATTEMPTS = 5
_TICK_SECONDS = 0.01


class Lateness:
    """By how much a thread that wakes up a hundred times a second was late."""

    def __init__(self) -> None:
        self._most = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def forget(self) -> None:
        """Begins again, after work that keeps other threads waiting, such as tracing."""
        self._most = 0.0

    def is_disturbed(self) -> bool:
        """Whether the process stood still."""
        return self._most > LATE_SECONDS

    def _watch(self) -> None:
        while not self._is_over.is_set():
            began = time.monotonic()
            self._is_over.wait(_TICK_SECONDS)
            self._most = max(self._most, time.monotonic() - began - _TICK_SECONDS)


def undisturbed(measure: Callable[[Lateness], Found]) -> Found:
    """Returns the first measurement during which the process did not stand still.

    Args:
        measure: Measures. It may call `Lateness.forget` where what it measures begins.
    """
    for _ in range(_ATTEMPTS):
        with Lateness() as lateness:
            found = measure(lateness)
        if not lateness.is_disturbed():
            return found
    pytest.skip(f"this process stood still in each of {_ATTEMPTS} measurements")
