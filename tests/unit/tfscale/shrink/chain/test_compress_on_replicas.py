"""A chain on two replicas is that of one device, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import tfscale
from tests.unit.tfscale.shrink.chain.test_compress import X, Y, trained
from tfscale.shrink import Chain, compress

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.usefixtures("in_double_precision", "two"),
]


@pytest.mark.thorough
def test_two_replicas_compress_as_one_device(
    one: tf.distribute.Strategy, two: tf.distribute.Strategy
) -> None:
    results = []
    for strategy in (one, two):
        rows = tfscale.data.input_pipeline(
            (X.astype("float64"), Y.astype("float64")), strategy, global_batch_size=7, seed=1
        )
        chain = Chain(channels=0.25, sparsity=0.5, clusters=8, epochs=2)
        model = trained(strategy)
        results.append(compress(model, chain, rows, validation=rows, file_format="keras"))
    for weight, wanted in zip(*(result.model.get_weights() for result in results), strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-9, atol=1e-11)
    for mine, other in zip(*(result.stages for result in results), strict=True):
        assert mine.metrics == pytest.approx(dict(other.metrics), rel=1e-9)
        assert (mine.zeros, mine.values) == (other.zeros, other.values)
