"""Custom losses and metrics: summed, averaged or equal over the replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tests.parity.configuration import Configuration
from tests.parity.examples import FEATURES, OUTPUTS

layers, ops = keras.layers, keras.ops


class Positives(keras.metrics.Metric):
    """Counts, like the example of `keras.metrics.Metric`; `kind` is how it reports."""

    def __init__(self, kind: str) -> None:
        super().__init__(name=f"positives_{kind}")
        self.kind = kind
        self.count = self.add_variable(shape=(), initializer="zeros", name="count")

    def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
        values = ops.cast(predicted > 0, self.dtype)
        self.count.assign(self.count + ops.sum(values))

    def result(self) -> Any:
        if self.kind == "dict":
            return {"as_it_is": self.count + 0.0, "twice": 2.0 * self.count}
        return self.count.value if self.kind == "value" else self.count + 0.0


class Extreme(keras.metrics.Metric):
    """The largest output so far, or the smallest."""

    def __init__(self, kind: str) -> None:
        super().__init__(name=kind)
        self.pick = {"largest": ops.maximum, "smallest": ops.minimum}[kind]
        self.over = {"largest": ops.max, "smallest": ops.min}[kind]
        self.value = self.add_variable(shape=(), initializer="zeros", name="value")

    def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
        self.value.assign(self.pick(self.value, self.over(predicted)))

    def result(self) -> Any:
        return self.value + 0.0


class Last(keras.metrics.Metric):
    """A number that is the same on all replicas."""

    def __init__(self) -> None:
        super().__init__(name="last")
        self.value = self.add_variable(shape=(), initializer="zeros", name="value")

    def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
        self.value.assign(0.125)

    def result(self) -> Any:
        return self.value + 0.0


class OwnMetrics(keras.Sequential):
    """Adds custom metrics to those of the configuration."""

    def compile(self, *arguments: Any, metrics: Any = None, **options: Any) -> None:
        counts = [Positives(kind) for kind in ("tensor", "value", "dict")]
        extremes = [Extreme("largest"), Extreme("smallest"), Last()]
        super().compile(*arguments, metrics=[*(metrics or []), *counts, *extremes], **options)


class OwnLoss(keras.Sequential):
    """A step that computes its loss; the models override `loss`."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.own_loss(y, predicted)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.noted(loss, predicted)

    def own_loss(self, y: Any, predicted: Any) -> Any:
        """Returns a mean over rows."""
        return ops.mean(ops.square(y - predicted))

    def noted(self, loss: Any, predicted: Any) -> dict[str, Any]:
        """Returns what is logged."""
        return {"own_loss": loss}


class ScalarTrackers(OwnLoss):
    """Gives trackers means over a batch, without the number of its rows."""

    def __init__(self, parts: Any) -> None:
        super().__init__(parts)
        self.loss_seen = keras.metrics.Mean(name="loss_seen")
        self.size_seen = keras.metrics.Mean(name="size_seen")

    def noted(self, loss: Any, predicted: Any) -> dict[str, Any]:
        self.loss_seen.update_state(loss)
        self.size_seen.update_state(ops.mean(ops.abs(predicted)))
        return {"loss_seen": self.loss_seen.result(), "size_seen": self.size_seen.result()}


class UnreducedLoss(OwnLoss):
    """Averages what a loss object leaves unreduced."""

    def __init__(self, parts: Any) -> None:
        super().__init__(parts)
        self.each = keras.losses.Huber(reduction="none")

    def own_loss(self, y: Any, predicted: Any) -> Any:
        return ops.mean(self.each(y, predicted))


class SummedLoss(OwnLoss):
    """Takes a loss object that sums, and the mean by the size of a batch."""

    def __init__(self, parts: Any) -> None:
        super().__init__(parts)
        self.total = keras.losses.MeanSquaredError(reduction="sum")

    def own_loss(self, y: Any, predicted: Any) -> Any:
        return 0.1 * self.total(y, predicted)


class VectorPenalty(keras.Layer):
    """Adds one number per row to the loss, which Keras sums."""

    def call(self, x: Any) -> Any:
        self.add_loss(0.01 * ops.sum(ops.square(x), axis=-1))
        return x


class Masked(keras.losses.Loss):
    """One number per row, which is 0 where the first target is negative."""

    def call(self, y: Any, predicted: Any) -> Any:
        counts = ops.cast(y[:, :1] > 0, predicted.dtype)
        return ops.mean(counts * ops.square(y - predicted), axis=-1)


class OwnLossClass(keras.Sequential):
    """Compiled with a custom loss class."""

    def compile(self, *arguments: Any, loss: Any = None, **options: Any) -> None:
        super().compile(*arguments, loss=Masked(reduction=loss.reduction), **options)


def _mlp(*between: keras.Layer, kind: type[keras.Sequential] = keras.Sequential) -> keras.Model:
    hidden = layers.Dense(7, activation="tanh")
    return kind([keras.Input((FEATURES,)), hidden, *between, layers.Dense(OUTPUTS)])


BUILDERS: dict[str, Callable[[Configuration], keras.Model]] = {
    "own_metrics": lambda _: _mlp(kind=OwnMetrics),
    "scalar_trackers": lambda _: _mlp(kind=ScalarTrackers),
    "unreduced_loss": lambda _: _mlp(kind=UnreducedLoss),
    "summed_loss": lambda _: _mlp(kind=SummedLoss),
    "vector_penalty": lambda _: _mlp(VectorPenalty()),
    "own_loss_class": lambda _: _mlp(kind=OwnLossClass),
}
