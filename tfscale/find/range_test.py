"""The steps of a range test: `fit` with a rate that grows from update to update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfscale.find.rate_curve import Divergence


class GivenRate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that returns what a variable contains, whatever the step.

    Args:
        rate: A scalar `tf.Variable` on each replica.
    """

    def __init__(self, rate: tf.Variable) -> None:
        self._rate = rate

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the rate."""
        return tf.convert_to_tensor(self._rate)

    def get_config(self) -> dict[str, Any]:
        """Returns no settings."""
        return {}


class RangeTest(keras.callbacks.Callback):
    """Sets the rate of each update and records its loss; an epoch of `fit` is an update.

    The logs at the end of an epoch are those of all replicas and workers, so that all workers
    record the same and stop together.

    Attributes:
        losses: Of each update, the mean over its batches; only finite ones.
        has_diverged: Whether the test ended before its highest rate.

    Args:
        rates: Of the updates.
        schedule_rate: What the optimizer's schedule reads, or None if its rate is a variable.
    """

    def __init__(self, rates: Sequence[float], schedule_rate: tf.Variable | None) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.has_diverged = False
        self.rates = list(rates)
        self._schedule_rate = schedule_rate
        self._divergence = Divergence()
        self._last = math.nan

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the rate."""
        if self._schedule_rate is None:
            self.model.optimizer.learning_rate = self.rates[epoch]
        else:
            self._schedule_rate.assign(self.rates[epoch])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the loss. Not from `on_epoch_end`, where stock Keras 3.14 has 0.0 for some."""
        self._last = float((logs or {}).get("loss", math.nan))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the loss, and ends `fit` if it has diverged."""
        self.has_diverged = self._divergence.after(self._last)
        if math.isfinite(self._last):
            self.losses.append(self._last)
        self.model.stop_training = self.has_diverged
