"""Progress of a pack."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_SECONDS_BETWEEN_LINES = 3.0


class Meter:
    """Says from time to time how much was written. Several threads report."""

    def __init__(self, num_examples: int | None, say: Callable[[str], None]) -> None:
        self._num_examples, self._say = num_examples, say
        self._examples = self._bytes = 0
        self._lock = threading.Lock()
        self._began = self._last = time.monotonic()

    def wrote(self, examples: int, size: int) -> None:
        """Takes note of records that were written."""
        with self._lock:
            self._examples += examples
            self._bytes += size

    def say(self) -> None:
        """Prints a line, if the last one was some seconds ago."""
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        speed = self._bytes / 2**20 / (now - self._began)
        of = "" if self._num_examples is None else f" of {self._num_examples:,}"
        self._say(f"packed {self._examples:,}{of} examples, {speed:.0f} MiB/s")
