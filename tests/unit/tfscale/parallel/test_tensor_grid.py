"""Divided layers of every kind, thirty steps long, beside stock Keras on one device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

import tfscale
from tests.unit.strategies.keras_support.beside_one_device import assert_like_one_device
from tests.unit.tfscale.parallel.divided_models import (
    Made,
    accumulating,
    apart,
    attention,
    clipped_adam,
    convolutions,
    momentum,
    pair,
    trained,
    transformer,
)

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.thorough,
    pytest.mark.usefixtures("in_double_precision"),
]

Strategies = dict[str, tf.distribute.Strategy]


CASES = [
    pytest.param(transformer, accumulating, "2x2", id="transformer, averages, 2x2"),
    pytest.param(attention, clipped_adam, "2x2", id="attention, clipping, 2x2"),
    pytest.param(convolutions, accumulating, "2x2", id="convolutions, averages, 2x2"),
    pytest.param(apart, accumulating, "2x2", id="apart, averages, 2x2"),
    pytest.param(pair, clipped_adam, "2x2", id="pair, clipping, 2x2"),
    pytest.param(transformer, clipped_adam, "1x2", id="transformer, clipping, 1x2"),
    pytest.param(attention, accumulating, "1x2", id="attention, averages, 1x2"),
    pytest.param(convolutions, momentum, "1x2", id="convolutions, momentum, 1x2"),
    pytest.param(apart, momentum, "1x2", id="apart, momentum, 1x2"),
    pytest.param(attention, clipped_adam, "1x4", id="attention, clipping, 1x4"),
]


@pytest.mark.parametrize(("make", "optimizer", "shape"), CASES)
def test_thirty_steps_are_those_of_one_device(
    by_shape: Strategies,
    make: Callable[[], Made],
    optimizer: Callable[[], Any],
    shape: str,
) -> None:
    assert_like_one_device(trained(make, optimizer), by_shape[shape])


@pytest.mark.parametrize("shape", ["1x2", "2x2"])
def test_microbatches_of_divided_layers_train_like_one_device(
    by_shape: Strategies, shape: str
) -> None:
    parts = trained(attention, clipped_adam, callbacks=lambda: [tfscale.callbacks.Microbatches(2)])
    assert_like_one_device(parts, by_shape[shape])


@pytest.mark.parametrize("shape", ["1x2", "2x2"])
def test_recomputed_divided_layers_train_like_one_device(by_shape: Strategies, shape: str) -> None:
    again = trained(
        attention,
        clipped_adam,
        prepared=lambda model: tfscale.recompute(model, r"(.*/)?(attention|up)"),
    )
    assert_like_one_device(again, by_shape[shape])
