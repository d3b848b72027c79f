"""The step compiled for a chip: its all-reduces, arguments and layers."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.distribute import tpu_values
from tensorflow.python.tpu.ops import tpu_ops

from strategies.keras_support import support
from strategies.keras_support.step.tracing import traced_train_step
from strategies.tpu.cpu_stand_in import TpuStandIn
from tests.stock_keras import SINCE_3_16
from tfscale.preflight.ahead_of_time.program import (
    BATCH,
    METRICS,
    OPTIMIZER_STATE,
    PARAMETERS,
    Program,
)
from tfscale.preflight.ahead_of_time.tracing import ReplicaOfMany, _fingerprint, traced_program

pytestmark = pytest.mark.own_process

IMAGES = (tf.TensorSpec([4, 8, 8, 1]), tf.TensorSpec([4], tf.int32))


def network() -> keras.Model:
    """Two layers whose names are what TensorFlow would number one of them, and random numbers."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, name="conv2d"),
            layers.Conv2D(4, 3, name="conv2d_1"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(name="flat"),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(3, name="end"),
        ],
        name="net",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    return model


def text_of(num_replicas: int, build: Any, batch: Any) -> str:
    strategy = support(ReplicaOfMany(num_replicas))
    with strategy.scope():
        model = build()
        return str(traced_train_step(model, batch).compiled("hlo"))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.clear_session()
    with support(ReplicaOfMany(4)).scope():
        return network()


@pytest.fixture(scope="module")
def program(model: keras.Model) -> Program:
    return traced_program(model, IMAGES, rows=2)


def all_reduces(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.search(r" all-reduce\(", line)]


def test_one_all_reduce_of_all_replicas_holds_gradients_and_statistics(model: keras.Model) -> None:
    with model.distribute_strategy.scope():
        text = traced_train_step(model, IMAGES).compiled("hlo")
    # Weights and biases of 1->4 and 4->4 convolutions, gamma and beta, a 64 -> 3 layer; the moves
    # of the moving mean and variance; the number of examples.
    weights = (9 * 4 + 4) + (9 * 4 * 4 + 4) + 2 * 4 + (64 * 3 + 3)
    (line,) = all_reduces(text)
    assert f"f32[{weights + 2 * 4 + 1}]" in line
    assert "replica_groups={{0,1,2,3}}" in line


def test_one_replica_reduces_nothing() -> None:
    assert all_reduces(text_of(1, network, IMAGES)) == []


WORDS = np.array([[1, 4, 4, 0, 1], [7, 4, 2, 2, 2]], np.int32)  # some of them twice and more
TARGETS = np.array([[1.0], [-2.0]])
WORD_SPECS = (tf.TensorSpec([2, 5], tf.int32), tf.TensorSpec([2, 1], tf.float64))
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "adam": lambda: keras.optimizers.Adam(0.1, clipnorm=0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1, global_clipnorm=0.01),
}


def embedded(optimizer: str = "sgd", *, is_one_hot: bool = False) -> keras.Model:
    """50 words of 6 numbers each, and a dense layer: 307 weights, drawn from a seed."""
    if is_one_hot:
        words = keras.Input((5, 50), dtype="float64")
        rows = layers.Dense(6, use_bias=False, dtype="float64")(words)
    else:
        words = keras.Input((5,), dtype="int32")
        rows = layers.Embedding(50, 6, dtype="float64")(words)
    pooled = layers.GlobalAveragePooling1D(dtype="float64")(rows)
    model = keras.Model(words, layers.Dense(1, dtype="float64")(pooled))
    model.compile(OPTIMIZERS[optimizer](), "mse", jit_compile=False)
    draw = np.random.default_rng(0)
    model.set_weights([draw.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def test_an_embeddings_gradient_rides_densely_in_the_one_all_reduce() -> None:
    def single() -> keras.Model:
        words = keras.Input((5,), dtype="int32")
        pooled = layers.GlobalAveragePooling1D()(layers.Embedding(50, 6)(words))
        model = keras.Model(words, layers.Dense(1)(pooled))
        model.compile("sgd", "mse")
        return model

    batch = (tf.TensorSpec([2, 5], tf.int32), tf.TensorSpec([2, 1]))
    (line,) = all_reduces(text_of(4, single, batch))
    assert f"f32[{50 * 6 + 6 + 1 + 1}]" in line  # the table, a layer, the number of examples


def test_float64_is_reduced_in_the_two_float32_that_a_tpu_makes_of_it() -> None:
    lines = all_reduces(text_of(4, embedded, WORD_SPECS))
    assert [f"f32[{50 * 6 + 6 + 1 + 1}]" in line for line in lines] == [True, True]


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("num_replicas", [1, 4])
def test_an_embedding_is_updated_as_its_matrix_is_on_one_device(
    optimizer: str, num_replicas: int
) -> None:
    """Words are rows of a matrix; times one-hot vectors it has a dense gradient in plain Keras."""
    stock = embedded(optimizer, is_one_hot=True)
    stock.train_on_batch(np.eye(50)[WORDS], TARGETS)
    # Its replicas are one: what they sum up, and divide by all examples, is this one's.
    with support(TpuStandIn(num_replicas)).scope():
        ours = embedded(optimizer)
        step = traced_train_step(ours, WORD_SPECS)
        step.function(WORDS, TARGETS)
    operations = {operation.type for operation in step.graph.get_operations()}
    assert not [kind for kind in operations if "Scatter" in kind]
    for one, other in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_tensorflows_tpu_makes_slices_dense_and_writes_no_rows() -> None:
    """What the two tests above rest on, settings of TensorFlow's own code."""
    with tf.Graph().as_default():
        slices = tf.IndexedSlices(tf.ones([2, 3]), [1, 1], [7, 3])
        summed = tpu_ops.cross_replica_sum(slices, group_assignment=[[0, 1]])
    assert not isinstance(summed, tf.IndexedSlices)
    assert summed.shape == [7, 3]
    with support(TpuStandIn(1)).scope():
        variable = tf.Variable([0.0])
    for name in ("add", "sub", "mul", "div", "min", "max", "update"):
        with pytest.raises(NotImplementedError):
            getattr(tpu_values.TPUMirroredVariable, f"scatter_{name}")(variable)
        with pytest.raises(
            NotImplementedError, match=f"has no scatter_{name}. Write the whole variable"
        ):
            getattr(variable, f"scatter_{name}")(tf.IndexedSlices([1.0], [0]))


def test_every_argument_is_known_by_what_it_is_for(model: keras.Model, program: Program) -> None:
    kinds = [argument.kind for argument in program.arguments]
    assert kinds[:2] == [BATCH, BATCH]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        BATCH: 2,
        PARAMETERS: 11,  # two a convolution and dense, four to normalise, the dropout's seed
        OPTIMIZER_STATE: 2 * 8 + 2,  # two slots of 8 weights; the learning rate and the count
        METRICS: 4,  # sum and count, of loss and accuracy
    }
    named = [argument.layer for argument in program.arguments if argument.kind == PARAMETERS]
    assert {"net/conv2d", "net/conv2d_1", "net/norm", "net/end"} < set(named)


def test_like_named_layers_are_told_apart(program: Program) -> None:
    scopes = {layer: scope for scope, layer in program.scopes.items()}
    first, second = scopes["net/conv2d"], scopes["net/conv2d_1"]
    if not SINCE_3_16:
        assert (first, second) == ("net_1/conv2d_1", "net_1/conv2d_1_2")
    assert program.layer_of(f"{first}/convolution") == "net/conv2d"
    assert program.layer_of(f"gradient_tape/{second}/convolution") == "net/conv2d_1"
    assert set(program.scopes.values()) >= {"net/conv2d", "net/conv2d_1", "drop", "net/end"}


def test_layers_are_called_as_before_once_the_step_is_traced(model: keras.Model) -> None:
    assert [layer for layer in model.layers if "call" in vars(layer)] == []


def test_the_same_step_has_the_same_fingerprint(model: keras.Model, program: Program) -> None:
    again = traced_program(model, IMAGES, rows=2)
    larger = traced_program(model, IMAGES, rows=3)
    assert again.fingerprint == program.fingerprint
    text = 'HloModule a_inference_step_7__.5 add(), metadata={op_name="add" source_file="/a" '
    moved = text.replace("_7__", "_8__").replace("/a", "/b") + "source_line=3}"
    assert _fingerprint(text + "source_line=2}") == _fingerprint(moved)
    assert _fingerprint(text) != _fingerprint(text.replace('"add"', '"mul"'))
    assert larger.fingerprint != program.fingerprint
    assert (program.rows, larger.rows, program.num_replicas) == (2, 3, 4)


def test_the_traced_step_is_the_one_that_trains() -> None:
    """On one replica it is run, and must do what Keras's own step does to the bit of rounding."""
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    y = x.sum(axis=1, keepdims=True)

    def build() -> keras.Model:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        return model

    stock = build()
    stock.train_on_batch(x, y)
    with support(ReplicaOfMany(1)).scope():
        ours = build()
        step = traced_train_step(ours, (tf.TensorSpec([4, 3]), tf.TensorSpec([4, 1])))
        step.function(x, y)
    for one, other in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
