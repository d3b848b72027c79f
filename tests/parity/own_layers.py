"""Custom layers with state: the state on replicas must match that on one device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tests.parity.configuration import Configuration
from tests.parity.examples import FEATURES, OUTPUTS
from tests.parity.own_gradients import OwnGradients

layers, ops = keras.layers, keras.ops


class Center(keras.Layer):
    """Subtracts a running mean over rows, as it was before this step."""

    aggregation = "none"

    def build(self, shape: Any) -> None:
        self.mean = self.add_weight(
            shape=(shape[-1],), initializer="zeros", trainable=False, aggregation=self.aggregation
        )

    def call(self, x: Any, training: bool = False) -> Any:
        centered = x - self.mean
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(x, axis=0))
        return centered


class CenterAtOnce(Center):
    """Subtracts the mean that it has just updated."""

    def call(self, x: Any, training: bool = False) -> Any:
        super().call(x, training=training)
        return x - self.mean


class PenalizedCenter(Center):
    """Declares that its state is a mean, and adds a penalty after it has updated it."""

    aggregation = "mean"

    def call(self, x: Any, training: bool = False) -> Any:
        centered = super().call(x, training=training)
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return centered


class Observer(keras.Layer):
    """Records the mean magnitude of its inputs; uses it when it does not train."""

    def build(self, shape: Any) -> None:
        self.size = self.add_weight(shape=(), initializer="ones", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.size.assign(0.9 * self.size + 0.1 * ops.mean(ops.abs(x)))
            return x
        return x / self.size


class Codebook(keras.Layer):
    """Moves each of its codes towards the rows that are nearest to it."""

    def build(self, shape: Any) -> None:
        self.codes = self.add_weight(
            shape=(4, shape[-1]), initializer="glorot_uniform", trainable=False
        )

    def call(self, x: Any, training: bool = False) -> Any:
        codes = ops.convert_to_tensor(self.codes)
        apart = ops.sum(ops.square(x[:, None, :] - codes[None]), axis=-1)
        nearest = ops.one_hot(ops.argmin(apart, axis=1), 4, dtype=x.dtype)
        chosen = ops.matmul(nearest, codes)
        if training:
            pull = ops.mean(nearest[:, :, None] * (x[:, None, :] - codes[None]), axis=0)
            self.codes.assign(codes + 0.3 * ops.stop_gradient(pull))
        return x + ops.stop_gradient(chosen - x) + 0.1 * x


class UsageCounts(keras.Layer):
    """Counts on which side of zero rows fall: a sum, and declared as one."""

    def build(self, shape: Any) -> None:
        self.counts = self.add_weight(
            shape=(shape[-1],), initializer="zeros", trainable=False, aggregation="sum"
        )

    def call(self, x: Any, training: bool = False) -> Any:
        scaled = x / (1.0 + 0.01 * self.counts)
        if training:
            self.counts.assign_add(ops.sum(ops.cast(x > 0, self.counts.dtype), axis=0))
        return scaled


class Quantizer(keras.Layer):
    """The codebook of a VQ-VAE: decayed counts and sums of rows, and codes that are their ratio."""

    def build(self, shape: Any) -> None:
        options = {"trainable": False, "aggregation": "sum"}
        self.codes = self.add_weight(
            shape=(4, shape[-1]), initializer="glorot_uniform", trainable=False
        )
        self.counts = self.add_weight(shape=(4,), initializer="ones", **options)
        self.sums = self.add_weight(
            shape=(4, shape[-1]), initializer=lambda *_, **__: self.codes.value, **options
        )

    def call(self, x: Any, training: bool = False) -> Any:
        codes = ops.convert_to_tensor(self.codes)
        apart = ops.sum(ops.square(x[:, None, :] - codes[None]), axis=-1)
        nearest = ops.one_hot(ops.argmin(apart, axis=1), 4, dtype=x.dtype)
        chosen = ops.matmul(nearest, codes)
        if training:
            rows = ops.stop_gradient(ops.matmul(ops.transpose(nearest), x))
            self.counts.assign(0.9 * self.counts + 0.1 * ops.sum(nearest, axis=0))
            self.sums.assign(0.9 * self.sums + 0.1 * rows)
            self.codes.assign(self.sums / (self.counts[:, None] + 1e-3))
        self.add_loss(0.1 * ops.mean(ops.square(x - ops.stop_gradient(chosen))))
        return x + ops.stop_gradient(chosen - x) + 0.1 * x


class Annealed(keras.Layer):
    """A temperature that falls with the steps, and a whole number that counts them."""

    def build(self, shape: Any) -> None:
        self.temperature = self.add_weight(shape=(), initializer="ones", trainable=False)
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int32")

    def call(self, x: Any, training: bool = False) -> Any:
        cooled = ops.tanh(x / self.temperature)
        if training:
            self.temperature.assign(0.95 * self.temperature)
            self.steps.assign_add(1)
        return cooled


class WithMaximum(keras.Layer):
    """Adds to each row its largest number, [rows, 1]."""

    def call(self, x: Any) -> Any:
        return ops.add(x, ops.max(x, axis=-1, keepdims=True))


class Teacher(OwnGradients):
    """Learns from a teacher that is a decayed average of itself, updated after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = [
            keras.Variable(v.numpy(), trainable=False, name=f"teacher_{i}")
            for i, v in enumerate(self.trainable_variables)
        ]

    def penalty(self, x: Any, predicted: Any) -> Any:
        w1, b1, w2, b2 = self.teacher
        taught = ops.matmul(ops.tanh(ops.matmul(x, w1) + b1), w2) + b2
        return 0.3 * ops.mean(ops.square(predicted - ops.stop_gradient(taught)))

    def after(self) -> None:
        for mean, variable in zip(self.teacher, self.trainable_variables, strict=True):
            mean.assign(0.9 * mean + 0.1 * variable)


def _around(layer: Callable[[], keras.Layer]) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(7, activation="tanh"),
            layer(),
            layers.Dense(OUTPUTS),
        ]
    )


def _observer_twice() -> keras.Model:
    inputs = keras.Input((FEATURES,))
    observer = Observer()
    hidden = observer(layers.Dense(7, activation="tanh")(2.0 * inputs))
    again = observer(layers.Dense(7, activation="tanh")(hidden))
    return keras.Model(inputs, layers.Dense(OUTPUTS)(again))


def _spectral_norm() -> keras.Model:
    dense = layers.SpectralNormalization(layers.Dense(7, activation="tanh"))
    return keras.Sequential([keras.Input((FEATURES,)), dense, layers.Dense(OUTPUTS)])


def _row_maximum() -> keras.Model:
    """Four columns: no batch of a sweep has four rows on one device, where Keras adds wrongly."""
    parts = [layers.Dense(4, activation="tanh"), WithMaximum(), layers.Dense(OUTPUTS)]
    return keras.Sequential([keras.Input((FEATURES,)), *parts])


def _of(build: Callable[[], keras.Model]) -> Callable[[Configuration], keras.Model]:
    return lambda _: build()


BUILDERS: dict[str, Callable[[Configuration], keras.Model]] = {
    "running_mean": _of(lambda: _around(Center)),
    "running_mean_at_once": _of(lambda: _around(CenterAtOnce)),
    "mean_beside_penalty": _of(lambda: _around(PenalizedCenter)),
    "observer_twice": _of(_observer_twice),
    "codebook": _of(lambda: _around(Codebook)),
    "usage_counts": _of(lambda: _around(UsageCounts)),
    "quantizer": _of(lambda: _around(Quantizer)),
    "annealed": _of(lambda: _around(Annealed)),
    "spectral_norm": _of(_spectral_norm),
    "row_maximum": _of(_row_maximum),
    "teacher": _of(Teacher),
}
