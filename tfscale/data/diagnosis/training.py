"""Trains for a while with `fit`, on an input or on a batch in memory, and measures a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfscale.data.diagnosis.turns import Turn

_MOST_STEPS = 2_000
_FIRST_STEPS = 4


class Training:
    """A model that is trained on one input, a turn at a time.

    Args:
        model: Compiled.
        x: Endless global batches: a `tf.data.Dataset`, or a pipeline. Its epochs do not matter.
        processor_seconds: Returns the processor time that was used so far.
    """

    def __init__(self, model: Any, x: Any, processor_seconds: Callable[[], float]) -> None:
        self._model, self._x = model, x
        self._processor_seconds = processor_seconds
        self._steps = 0

    def prepare(self, seconds: float) -> None:
        """Traces the step, and finds how many of them take about `seconds`."""
        self._fit(1)
        turn = self._fit(_FIRST_STEPS)
        steps = _steps_of(turn, seconds)
        if steps > 8 * _FIRST_STEPS:  # the first steps were mostly the start of an epoch
            steps = _steps_of(self._fit(steps), seconds)
        self._steps = steps

    def turn(self) -> Turn:
        """Trains for two epochs of as many steps, and returns what a step of the second took."""
        return self._fit(self._steps)

    def _fit(self, steps: int) -> Turn:
        epochs = _Epochs(self._processor_seconds)
        common: dict[str, Any] = {"epochs": 2, "verbose": 0, "callbacks": [epochs]}
        if isinstance(self._x, tf.data.Dataset):
            self._model.fit(self._x, steps_per_epoch=steps, shuffle=False, **common)
        else:
            self._model.fit(_OfSteps(self._x, steps), **common)
        return Turn(epochs.seconds / steps, epochs.processor_seconds / steps)


def _steps_of(turn: Turn, seconds: float) -> int:
    return max(_FIRST_STEPS, min(_MOST_STEPS, round(seconds / max(turn.seconds, 1e-6))))


class _OfSteps:
    """The endless batches of a pipeline in epochs of so many steps."""

    def __init__(self, batches: Any, steps: int) -> None:
        self.steps_per_epoch = steps
        self.strategy = batches.strategy
        self.element_spec = batches.element_spec
        self.global_batch_size = batches.global_batch_size
        self.local = batches.local
        self.replica_batches = batches.replica_batches


class _Epochs(keras.callbacks.Callback):
    """Measures the newest epoch. Without hooks for batches, executions have their usual size."""

    def __init__(self, processor_seconds: Callable[[], float]) -> None:
        super().__init__()
        self.seconds = self.processor_seconds = 0.0
        self._used = processor_seconds

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._before, self._began = self._used(), time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds = time.perf_counter() - self._began
        self.processor_seconds = self._used() - self._before
