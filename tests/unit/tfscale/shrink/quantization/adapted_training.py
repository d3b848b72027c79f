"""Low-rank weights that train on a base of integers, on any strategy, in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.unit.strategies.keras_support.beside_one_device import Found, found
from tfscale.shrink import quantize

_DRAW = np.random.default_rng(6)
TOKENS = _DRAW.integers(0, 20, size=[22, 5]).astype("int32")
TARGETS = _DRAW.normal(size=[22, 2]).astype("float32")
LAYERS = keras.layers
ADAPTED = (LAYERS.Dense, LAYERS.EinsumDense, LAYERS.Embedding)


@contextlib.contextmanager
def in_single_precision() -> Iterator[None]:
    """Keras's defaults, also where a test or a job computes in float64 otherwise."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def network() -> keras.Model:
    """All layers that Keras quantizes."""
    tokens = keras.Input([5], dtype="int32")
    x = LAYERS.Embedding(20, 8)(tokens)
    x = LAYERS.EinsumDense("btd,dh->bth", (None, 6), bias_axes="h", activation="tanh")(x)
    return keras.Model(tokens, LAYERS.Dense(2)(LAYERS.GlobalAveragePooling1D()(x)))


def trained(
    strategy: tf.distribute.Strategy, mode: str, batch_size: int, **compiling: Any
) -> Found:
    """Weights, losses and predictions after three epochs in which no integer changes."""
    with in_single_precision():
        with strategy.scope():
            model = quantize(network(), mode, calibration=TOKENS).model
            layers = [layer for layer in model.layers if isinstance(layer, ADAPTED)]
            for layer in layers:
                layer.enable_lora(2)
            adam = keras.optimizers.Adam(0.05, global_clipnorm=1.0)
            model.compile(adam, "mse", **compiling)
        before = integers_of(model)
        history = model.fit(TOKENS, TARGETS, batch_size, epochs=3, shuffle=False, verbose=0)
        predictions = model.predict(TOKENS, batch_size=batch_size, verbose=0)
    for path, value in integers_of(model).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    assert len([v for v in model.trainable_variables if "lora" in v.path]) == 2 * len(layers)
    return found(model, history, predictions=predictions)


def integers_of(model: keras.Model) -> dict[str, Any]:
    """The quantized weights by path; there is one at least for each layer."""
    values = {
        v.path: np.array(v) for v in model.non_trainable_variables if v.dtype in ("int8", "uint8")
    }
    assert len(values) >= 3
    return values
