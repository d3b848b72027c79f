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


@pytest.mark.parametrize(
    "arguments",
    [
        {"global_clipnorm": 0.5},
        pytest.param({"gradient_accumulation_steps": 2}, marks=pytest.mark.thorough),
    ],
)
def test_thirty_steps_are_the_same_on_1_2_and_3_replicas(
    arguments: dict[str, Any], by_replicas: dict[int, tf.distribute.Strategy]
) -> None:
    one, two, three = (trained(by_replicas[n], **arguments) for n in (1, 2, 3))
    for each in (two, three):
        for own, expected in zip(each.get_weights(), one.get_weights(), strict=True):
            np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-12)


def test_the_copies_of_a_slot_are_equal(by_replicas: dict[int, tf.distribute.Strategy]) -> None:
    for slot in trained(by_replicas[3]).optimizer.variables:
        first, *others = (np.asarray(copy).tobytes() for copy in slot._value.values)
        assert all(other == first for other in others)
