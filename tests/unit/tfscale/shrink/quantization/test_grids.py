"""Rounding to eight bits, beside TensorFlow's own operations, and the layers that do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfscale.shrink import FakeQuantize, RoundedWeights
from tfscale.shrink.quantization.grids import grid_of, rounded_to_grid, rounded_weights

DRAW = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        pytest.param(-1.0, 1.3, id="both signs"),
        pytest.param(0.0, 6.0, id="after a ReLU"),
        pytest.param(-0.3, 0.0, id="negative"),
    ],
)
def test_activations_are_rounded_as_tensorflow_does_and_so_is_their_gradient(
    low: float, high: float
) -> None:
    x = tf.constant(DRAW.normal(size=1000).astype("float32"))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours = rounded_to_grid(x, grid_of(np.float32(low), np.float32(high)))
        expected = tf.quantization.fake_quant_with_min_max_args(x, low, high)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(tape.gradient(ours, x), tape.gradient(expected, x))


def test_weights_are_rounded_channel_by_channel_as_tensorflow_does() -> None:
    weights = DRAW.normal(size=[3, 3, 4, 5]).astype("float32")
    largest = np.abs(weights).max(axis=(0, 1, 2))
    expected = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        weights, -largest, largest, narrow_range=True
    )
    np.testing.assert_allclose(rounded_weights(weights, [0, 1, 2]), expected, rtol=1e-5, atol=1e-6)


def test_the_largest_weight_has_a_gradient_too() -> None:
    weights = tf.constant(DRAW.normal(size=[50, 8]).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(weights)
        total = tf.reduce_sum(rounded_weights(weights, [0]))
    np.testing.assert_array_equal(tape.gradient(total, weights), np.ones([50, 8]))


def test_zero_stays_zero_also_where_a_channel_or_a_tensor_has_nothing_else() -> None:
    weights = np.array([[0.0, 1.0], [0.0, 0.0]], "float32")
    np.testing.assert_array_equal(rounded_weights(weights, [0]), weights)
    layer = FakeQuantize()
    np.testing.assert_array_equal(layer(np.zeros([1, 3], "float32")), np.zeros([1, 3]))


def test_the_range_follows_the_extremes_of_the_batch_before() -> None:
    layer = FakeQuantize(momentum=0.75)
    layer.set_range(-1.0, 2.0)
    for batch in ([-3.0, 0.0], [0.0, 6.0], [0.0, float("nan")], [1.0, 1.0]):
        layer(tf.constant([batch]), training=True)
    # By hand: [1, 2], [1, 2] -> [3, 0] -> [1.5, 1.5] -> [0, 6] -> [1.125, 2.625]; NaN is left out.
    np.testing.assert_allclose(layer.reach.numpy(), [1.125, 2.625])


def test_prediction_leaves_the_range() -> None:
    layer = FakeQuantize()
    layer.set_range(-1.0, 1.0)
    layer(tf.constant([[5.0]]))
    layer(tf.constant([[5.0]]))
    np.testing.assert_array_equal(layer.reach.numpy(), [1.0, 1.0])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_rounds_to_the_grid_of_float32(policy: str) -> None:
    layer = FakeQuantize(dtype=policy)
    layer.set_range(-1.0, 1.0)
    x = tf.constant([DRAW.uniform(-1, 1, size=100)], layer.compute_dtype)
    full = FakeQuantize()
    full.set_range(-1.0, 1.0)
    expected = tf.cast(full(tf.cast(x, "float32")), x.dtype)
    np.testing.assert_array_equal(tf.cast(layer(x), "float32"), tf.cast(expected, "float32"))


@pytest.mark.parametrize("ends", [(1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_an_impossible_range_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="`low` and `high` must be finite"):
        FakeQuantize().set_range(*ends)


def test_a_layer_that_no_file_can_round_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a Dense, EinsumDense"):
        RoundedWeights(keras.layers.LSTM(2))(np.ones([1, 2, 2], "float32"))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        pytest.param(keras.layers.Dense(3), [2, 5, 4], id="Dense"),
        pytest.param(keras.layers.Conv1D(3, 2, padding="causal"), [2, 5, 4], id="Conv1D, causal"),
        pytest.param(keras.layers.Conv2D(4, 3, strides=2, groups=2), [2, 7, 7, 4], id="Conv2D"),
        pytest.param(
            keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
            [2, 6, 6, 3],
            id="DepthwiseConv2D",
        ),
        pytest.param(
            keras.layers.EinsumDense("abc,cde->abde", [None, 2, 3], bias_axes="de"),
            [2, 5, 4],
            id="EinsumDense",
        ),
    ],
)
def test_on_the_grid_a_layer_computes_what_it_computed(layer: Any, shape: list[int]) -> None:
    x = DRAW.normal(size=shape).astype("float32")
    rounded = RoundedWeights(layer)
    rounded(x)
    layer.bias.assign(DRAW.normal(size=layer.bias.shape))
    layer.kernel.assign(rounded_weights(layer.kernel.value, rounded.kind.axes(layer)))
    np.testing.assert_allclose(rounded(x), layer(x), rtol=1e-5, atol=1e-5)


def test_a_saved_model_predicts_the_same(tmp_path: Path) -> None:
    layers = [keras.Input([4]), FakeQuantize(), RoundedWeights(keras.layers.Dense(2))]
    model = keras.Sequential([*layers, FakeQuantize(fixed=(0.0, 0.5))])
    model.layers[0].set_range(-1.0, 2.0)
    model.save(tmp_path / "model.keras")
    x = DRAW.normal(size=[8, 4]).astype("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
