"""LoRA on a base of integers, on many replicas."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    X,
    Y,
    found,
    on_one_device,
    on_strategy,
)
from tfscale.shrink import quantize

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]


def trained(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        layers = [keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)]
        model = keras.Sequential([keras.Input([3]), *layers])
        smaller = quantize(model, "int8", calibration=X).model
        for layer in smaller.layers:
            layer.enable_lora(2)
        smaller.compile(keras.optimizers.Adam(0.05), "mse")
    integers = [v for v in smaller.variables if v.dtype == "int8"]
    before = [np.array(variable) for variable in integers]
    history = smaller.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]
    assert len(smaller.trainable_weights) == 6
    assert len(integers) == 2
    for variable, value in zip(integers, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    return found(smaller, history)


def test_adapters_on_integers_train_as_on_one_device() -> None:
    strategy = strategies.mirrored_strategy(2)  # TensorFlow must have both before it starts
    expected, shown = on_one_device(trained), on_strategy(trained, strategy)
    for name in expected:  # Keras computes products of integers and their scales in float32
        np.testing.assert_allclose(shown[name], expected[name], rtol=1e-6, atol=1e-7, err_msg=name)
