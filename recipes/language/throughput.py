"""Measures how fast the training is, without validation and without compilation."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import keras


class Throughput(keras.callbacks.Callback):
    """Measures the seconds of a step in each epoch.

    Does not communicate with other workers. The time from the beginning of an epoch to that of its
    validation counts.

    Args:
        clock: Returns seconds from any origin.

    Attributes:
        seconds: Mean seconds of a step, by epoch; the first has the compilation too.
    """

    async_safe = True
    needs_every_batch = False

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._clock = clock
        self._began: float | None = None
        self._steps = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._began, self._steps = self._clock(), self._updates()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Stops the clock where validation begins."""
        if self._began is not None:
            steps = self._updates() - self._steps  # waits until they are done
            if steps:
                self.seconds.append((self._clock() - self._began) / steps)
            self._began = None

    @property
    def seconds_per_step(self) -> float | None:
        """The median over epochs without the first, or None if there was only one."""
        return statistics.median(self.seconds[1:]) if len(self.seconds) > 1 else None

    def _updates(self) -> int:
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
