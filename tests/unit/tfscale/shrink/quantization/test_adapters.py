"""LoRA on a base of integers, on many replicas; on two workers see tests/workers/test_shrunk.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    on_one_device,
    on_strategy,
)
from tests.unit.tfscale.shrink.quantization.adapted_training import trained

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("two")]


@pytest.mark.parametrize(
    ("mode", "batch_size", "shard"),
    [
        pytest.param("int8", 7, 0, id="int8, and at last one row, so that a replica has none"),
        pytest.param("int4", 8, 0, marks=pytest.mark.thorough),
        pytest.param("int8", 7, 1, marks=pytest.mark.thorough),
        pytest.param("int8", 7, 2, marks=pytest.mark.thorough),
        pytest.param("int8", 7, 3, marks=pytest.mark.thorough),
    ],
)
def test_adapters_on_integers_train_as_on_one_device(
    mode: str, batch_size: int, shard: int
) -> None:
    """In float32: Keras computes products of integers and their scales in it."""

    def program(on: tf.distribute.Strategy) -> Found:
        return trained(on, mode, batch_size)

    strategy = strategies.mirrored_strategy(2, shard=shard)
    expected, shown = on_one_device(program), on_strategy(program, strategy)
    assert shown.keys() == expected.keys()
    assert expected["history of loss"][-1] < expected["history of loss"][0]
    for name in expected:
        np.testing.assert_allclose(shown[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
