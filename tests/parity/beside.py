"""Parts of a batch that are not rows: numbers and tensors common to all examples, and None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.parity.configuration import Configuration
from tests.parity.examples import FEATURES, OUTPUTS
from tests.parity.kinds import kind_of

layers, ops = keras.layers, keras.ops
SCALE = 0.7
LINKS = np.random.default_rng(8).normal(size=(FEATURES, FEATURES))
"""How features are mixed; no batch has this number of rows."""


def with_parts(
    configuration: Configuration, dataset: tf.data.Dataset, is_ours: bool
) -> tf.data.Dataset:
    """Adds to a dataset the parts without rows that its model needs.

    Args:
        configuration: Names the model.
        dataset: Batches of `(x, ...)`.
        is_ours: Whether the strategy is of `strategies`: only then are shared tensors declared.
    """
    beside = kind_of(configuration.model).beside
    if beside == "scalar":
        return dataset.map(lambda x, *rest: ((x, tf.constant(SCALE, x.dtype)), *rest))
    if beside == "shared":
        declared = _shared() if is_ours else tf.convert_to_tensor
        return dataset.map(lambda x, *rest: ((x, declared(tf.constant(LINKS))), *rest))
    if beside == "no_weights":
        return dataset.map(lambda x, y: (x, y, None))
    if beside == "no_input":
        return dataset.map(lambda x, *rest: ({"features": x, "more": None}, *rest))
    return dataset


def _shared() -> Callable[[Any], Any]:
    # Imported here: the reference process must not import tfscale.
    from tfscale.data import shared

    return shared


class Scaled(keras.Model):
    """Multiplies by a number that comes with each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = layers.Dense(7, activation="tanh")
        self.output_layer = layers.Dense(OUTPUTS)

    def build(self, shape: Any) -> None:
        self.hidden.build((None, FEATURES))
        self.output_layer.build((None, 7))

    def call(self, inputs: Any) -> Any:
        x, scale = inputs
        return self.output_layer(self.hidden(x) * scale)


class Linked(Scaled):
    """Mixes features by a matrix that comes with each batch."""

    def call(self, inputs: Any) -> Any:
        x, links = inputs
        return self.output_layer(self.hidden(ops.matmul(x, links)))


class AddIfThere(keras.Layer):
    """Adds a second input if there is one."""

    def call(self, x: Any, more: Any = None) -> Any:
        return x if more is None else x + more

    def compute_output_shape(self, x_shape: Any, more_shape: Any = None) -> Any:
        return x_shape


def _no_weights() -> keras.Model:
    hidden = layers.Dense(7, activation="tanh")
    return keras.Sequential([keras.Input((FEATURES,)), hidden, layers.Dense(OUTPUTS)])


def _no_input() -> keras.Model:
    x = keras.Input((FEATURES,), name="features")
    more = keras.Input((FEATURES,), name="more", optional=True)
    hidden = layers.Dense(7, activation="tanh")(AddIfThere()(x, more))
    return keras.Model({"features": x, "more": more}, layers.Dense(OUTPUTS)(hidden))


def _of(build: Callable[[], keras.Model]) -> Callable[[Configuration], keras.Model]:
    return lambda _: build()


BUILDERS: dict[str, Callable[[Configuration], keras.Model]] = {
    "scalar_beside": _of(Scaled),
    "shared_beside": _of(Linked),
    "no_weights": _of(_no_weights),
    "no_input": _of(_no_input),
}
