"""Masked and cut under a strategy: the same weights on all replicas, and training goes on."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import strategies
from tests.unit.tfscale.shrink.structured.cut_models import (
    batch_for,
    outputs_of,
    plain_cnn,
    with_drawn_weights,
)
from tfscale.shrink import channel_groups, cut, mask_channels

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]


@pytest.fixture(scope="module")
def mirrored() -> Any:
    return strategies.mirrored_strategy(2)


@pytest.fixture(scope="module")
def sharded() -> Any:
    return strategies.mirrored_strategy(2, shard=3)


def small(model: keras.Model, batch: Any) -> keras.Model:
    """Trained for a step, masked, cut, and trained for two more."""
    model.compile("adam", "mse")
    model.fit(batch, np.ones((8, 3)), batch_size=8, verbose=0)
    mask_channels(model, 0.5)
    smaller = cut(model)
    smaller.fit(batch, np.ones((8, 3)), batch_size=8, epochs=2, verbose=0)
    return smaller


def normalized() -> keras.Model:
    layers = [
        keras.Input((6, 6, 3)),
        keras.layers.Conv2D(8, 3),
        keras.layers.BatchNormalization(synchronized=True),
        keras.layers.ReLU(),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    return with_drawn_weights(keras.Sequential(layers))


@pytest.mark.thorough
def test_two_replicas_match_one_device(mirrored: Any, sharded: Any) -> None:
    alone = normalized()
    batch = batch_for(alone, rows=8)
    expected = small(alone, batch)
    with mirrored.scope():
        own = small(normalized(), batch)
    np.testing.assert_allclose(outputs_of(own, batch), outputs_of(expected, batch), atol=1e-9)
    for weight in own.weights:
        first, other = mirrored.experimental_local_results(weight.value)
        np.testing.assert_array_equal(first.numpy(), other.numpy())


def test_divided_weights_are_refused(mirrored: Any, sharded: Any) -> None:
    with sharded.scope():
        model = plain_cnn()
    with pytest.raises(ValueError, match="`model` must have whole weights"):
        channel_groups(model)
