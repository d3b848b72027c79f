"""Slots stored in bfloat16 are rounded alike on every replica, and on any number of replicas."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.unit.strategies.keras_support.beside_one_device import X, Y
from tfscale.optimizers import with_state_dtype

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]


def trained(strategy: tf.distribute.Strategy, **arguments: Any) -> keras.Model:
    keras.utils.set_random_seed(4)
    with strategy.scope():
        layers = [keras.Input([3]), keras.layers.Dense(6, "tanh"), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        model.compile(with_state_dtype(keras.optimizers.AdamW(0.02, **arguments)), "mse")
    model.fit(X, Y, batch_size=8, epochs=10, shuffle=False, verbose=0)
    return model


CLIPPED, ACCUMULATED = {"global_clipnorm": 0.5}, {"gradient_accumulation_steps": 2}


@pytest.mark.parametrize(
    ("replicas", "arguments"),
    [
        (3, CLIPPED),
        pytest.param(2, CLIPPED, marks=pytest.mark.thorough),
        pytest.param(2, ACCUMULATED, marks=pytest.mark.thorough),
        pytest.param(3, ACCUMULATED, marks=pytest.mark.thorough),
    ],
)
def test_thirty_steps_are_those_of_one_device_and_copies_of_a_slot_are_equal(
    replicas: int, arguments: dict[str, Any], by_replicas: dict[int, tf.distribute.Strategy]
) -> None:
    one, ours = (trained(by_replicas[n], **arguments) for n in (1, replicas))
    for own, expected in zip(ours.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-12)
    for slot in ours.optimizer.variables:
        first, *others = (np.asarray(copy).tobytes() for copy in slot._value.values)
        assert len(others) == replicas - 1
        assert all(other == first for other in others)
