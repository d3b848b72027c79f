"""Floating-point operations of training steps beside counts worked out by hand.

F is a product of matrices in the forward pass, two operations for each multiplication. Backward it
is repeated for the kernel, and for its input unless that is the model's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

import strategies
import tfscale

pytestmark = pytest.mark.own_process

Layers = Callable[[], list[keras.layers.Layer]]
ROWS = 8


@pytest.fixture(scope="module")
def two_replicas() -> strategies.Strategy:
    return strategies.mirrored_strategy(num_replicas=2)


@pytest.fixture(scope="module")
def one_device(two_replicas: strategies.Strategy) -> strategies.Strategy:
    return strategies.one_device_strategy()  # after that one, which cuts the CPU in two


def counted(
    strategy: Any, layers: Layers, shape: tuple[int, ...], **compiled: Any
) -> tfscale.monitor.Flops:
    with strategy.scope():
        model = keras.Sequential([keras.Input(shape), *layers()])
        model.compile("sgd", "mse", **compiled)
    target = tf.TensorSpec([ROWS, *model.output_shape[1:]])
    return tfscale.monitor.training_flops(model, (tf.TensorSpec([ROWS, *shape]), target))


DENSE = 2 * ROWS * 3 * 5, 2 * ROWS * 5 * 2
CONV = 2 * ROWS * 6 * 6 * 4 * (3 * 3 * 3), 2 * ROWS * 4 * 4 * 6 * (3 * 3 * 4)  # 8x8 -> 6x6 -> 4x4
SAME = 2 * ROWS * 8 * 8 * 4 * (3 * 3 * 3)  # padding counts
DEPTHWISE = 2 * ROWS * 6 * 6 * (3 * 2) * (3 * 3), 2 * ROWS * 4 * 4 * (6 * 2) * (3 * 3)
GROUPED = 2 * ROWS * 6 * 6 * 4 * (3 * 3 * 1)
CONV_3D = 2 * ROWS * 2 * 3 * 4 * 5 * (2 * 2 * 2 * 3), 2 * ROWS * 1 * 2 * 3 * 2 * (2 * 2 * 2 * 5)
TRANSPOSED = 2 * ROWS * (8 * 8 * 3) * (2 * 2 * 4)  # each of 8x8x3 inputs writes 2x2x4 outputs
LSTM = 2 * ROWS * 5 * 3 * (4 * 4), 2 * ROWS * 5 * 4 * (4 * 4)  # 5 turns, 3 features, 4 units
TOP = 2 * ROWS * 5 * 4 * (2 * 4), 2 * ROWS * 5 * 2 * (2 * 4)  # 2 units on 4 features


@pytest.mark.parametrize(
    ("layers", "shape", "expected"),
    [
        pytest.param(
            lambda: [keras.layers.Dense(5, activation="relu"), keras.layers.Dense(2)],
            (3,),
            2 * DENSE[0] + 3 * DENSE[1],
            id="dense",
        ),
        pytest.param(
            lambda: [keras.layers.Conv2D(4, 3), keras.layers.Conv2D(6, 3)],
            (8, 8, 3),
            2 * CONV[0] + 3 * CONV[1],
            id="convolution",
        ),
        pytest.param(
            lambda: [keras.layers.Conv2D(4, 3, padding="same")], (8, 8, 3), 2 * SAME, id="padding"
        ),
        pytest.param(
            lambda: [keras.layers.DepthwiseConv2D(3, depth_multiplier=2) for _ in range(2)],
            (8, 8, 3),
            2 * DEPTHWISE[0] + 3 * DEPTHWISE[1],
            id="depthwise",
        ),
        pytest.param(
            lambda: [keras.layers.Conv3D(5, 2), keras.layers.Conv3D(2, 2)],
            (3, 4, 5, 3),
            2 * CONV_3D[0] + 3 * CONV_3D[1],
            id="three dimensions",
        ),
        pytest.param(
            lambda: [keras.layers.Conv2DTranspose(4, 2, strides=2)],
            (8, 8, 3),
            2 * TRANSPOSED,
            id="transposed",
        ),
        pytest.param(
            lambda: [keras.layers.LSTM(4)],
            (5, 3),
            # Backward: the kernel; the recurrent kernel and the state.
            2 * LSTM[0] + 3 * LSTM[1],
            id="lstm",
        ),
        pytest.param(
            lambda: [keras.layers.LSTM(4, return_sequences=True), keras.layers.LSTM(2)],
            (5, 3),
            2 * LSTM[0] + 3 * LSTM[1] + 3 * sum(TOP),
            id="two lstms",
        ),
        pytest.param(
            lambda: [keras.layers.LSTM(4, unroll=True)],
            (5, 3),
            # No turn follows the last, and the first state is no parameter's.
            2 * LSTM[0] + 3 * LSTM[1] - LSTM[1] // 5,
            id="unrolled lstm",
        ),
    ],
)
def test_layers_count_as_by_hand(
    one_device: Any, layers: Layers, shape: tuple[int, ...], expected: int
) -> None:
    found = counted(one_device, layers, shape)
    assert found.total == expected
    assert found.unknown == {}


def test_attention_counts_as_by_hand(one_device: Any) -> None:
    length, width, heads, head = 6, 8, 2, 5
    with one_device.scope():
        inputs = keras.Input((length, width))
        outputs = keras.layers.MultiHeadAttention(heads, head)(inputs, inputs)
        model = keras.Model(inputs, outputs)
        model.compile("sgd", "mse")
    spec = tf.TensorSpec([ROWS, length, width])
    projection = 2 * ROWS * length * width * (heads * head)
    scores = values = 2 * ROWS * heads * length * length * head
    # Query, key and value come from the input, which is no parameter; the output does not.
    expected = 3 * 2 * projection + 3 * projection + 3 * (scores + values)
    assert tfscale.monitor.training_flops(model, (spec, spec)).total == expected


def test_each_replica_counts_its_own_batch(two_replicas: Any) -> None:
    found = counted(two_replicas, lambda: [keras.layers.Dense(5)], (3,))
    assert found.total == 2 * DENSE[0]


def test_layers_that_are_recomputed_count_once(one_device: Any) -> None:
    with one_device.scope():
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(5, name="first"), keras.layers.Dense(2)]
        )
        tfscale.recompute(model, "first")
        model.compile("sgd", "mse")
    batch = tf.TensorSpec([ROWS, 3]), tf.TensorSpec([ROWS, 2])
    found = tfscale.monitor.training_flops(model, batch)
    assert found.total == 2 * DENSE[0] + 3 * DENSE[1]
    assert model.get_layer("first")._remat_mode is not None


def test_what_is_not_counted_is_named(one_device: Any) -> None:
    found = counted(one_device, lambda: [keras.layers.Dense(5, activation="relu")], (3,))
    assert set(found.by_type) == {"MatMul"}
    assert found.not_counted["Relu"] == found.not_counted["ReluGrad"] == 1
    assert found.not_counted["AssignSubVariableOp"] == 2


class Hidden(keras.layers.Layer):
    """Multiplies as often as the data say, and once where TensorFlow cannot see it."""

    def call(self, inputs: Any) -> Any:
        def turn(count: Any, value: Any) -> tuple[Any, Any]:
            return count + 1, tf.matmul(value, tf.eye(5))

        turns = tf.cast(tf.reduce_max(inputs), tf.int32)
        _, found = tf.while_loop(lambda count, _: count < turns, turn, (0, inputs))
        found = tf.numpy_function(lambda x: x @ x.T @ x, [found], tf.float32)
        return inputs + tf.ensure_shape(tf.stop_gradient(found), inputs.shape)


def test_what_cannot_be_counted_is_named(one_device: Any) -> None:
    found = counted(one_device, lambda: [keras.layers.Dense(5), Hidden()], (3,))
    assert set(found.unknown) == {"StatelessWhile", "PyFunc"}
    assert found.total == 2 * DENSE[0]


def test_a_plain_model_and_a_batch_of_unknown_size_are_refused(one_device: Any) -> None:
    plain = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    plain.compile("sgd", "mse")
    spec = tf.TensorSpec([None, 1])
    with pytest.raises(ValueError, match=r"`model` must be .* to use training_flops"):
        tfscale.monitor.training_flops(plain, (spec, spec))
    with one_device.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"`batch` must have known shapes .*None, 1"):
        tfscale.monitor.training_flops(model, (spec, spec))
