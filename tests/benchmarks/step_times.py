"""A clock for the steps of `fit`."""

from __future__ import annotations

import time
from typing import Any

import keras


class StepTimes(keras.callbacks.Callback):
    """Notes the seconds of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stops it when the step is done."""
        self.wait()
        self.seconds.append(time.perf_counter() - self._began)

    def wait(self) -> None:
        """Waits for what the step does last, on one device."""
        self.model.optimizer.iterations.numpy()
