"""A deadline for loops that wait in short intervals.

deadline = Deadline(30.0)
while not is_ready():
    if deadline.is_over():
        raise TimeoutError(f"not ready within {deadline.seconds:g} s")
    event.wait(deadline.left(at_most=1.0))
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """The end of a wait that starts now.

    Attributes:
        seconds: How long the whole wait may last. 0 is over immediately.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._began = clock()

    def spent(self) -> float:
        """Returns the seconds since the start."""
        return self._clock() - self._began

    def left(self, *, at_most: float | None = None) -> float:
        """Returns the remaining seconds, at least 0.

        Args:
            at_most: The longest slice to wait for. None for no limit.
        """
        left = max(0.0, self.seconds - self.spent())
        return left if at_most is None else min(left, at_most)

    def is_over(self) -> bool:
        """Returns whether the time has passed."""
        return self.spent() >= self.seconds
