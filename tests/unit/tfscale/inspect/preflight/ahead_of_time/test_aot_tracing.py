"""The step that is compiled for a chip: its all-reduces, its arguments, its layers."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from strategies.keras_support import support
from strategies.keras_support.traced_step import traced_train_step
from tfscale.inspect.preflight.ahead_of_time.program import (
    BATCH,
    METRICS,
    OPTIMIZER_STATE,
    PARAMETERS,
    Program,
)
from tfscale.inspect.preflight.ahead_of_time.replica_of_many import ReplicaOfMany
from tfscale.inspect.preflight.ahead_of_time.tracing import traced_program

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


def test_rows_of_an_embedding_are_gathered_from_all_replicas() -> None:
    def build() -> keras.Model:
        words = keras.Input((5,), dtype="int32")
        pooled = layers.GlobalAveragePooling1D()(layers.Embedding(50, 6)(words))
        model = keras.Model(words, layers.Dense(1)(pooled))
        model.compile("sgd", "mse")
        return model

    batch = (tf.TensorSpec([2, 5], tf.int32), tf.TensorSpec([2, 1]))
    reduced = "".join(all_reduces(text_of(4, build, batch)))
    assert f"f32[{4 * 2 * 5},6]" in reduced  # of each replica, 2 examples of 5 words
    assert f"s32[{4 * 2 * 5}]" in reduced


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
    assert program.layer_of("net_1/conv2d_1/convolution") == "net/conv2d"
    assert program.layer_of("gradient_tape/net_1/conv2d_1_2/convolution") == "net/conv2d_1"
    assert set(program.scopes.values()) >= {"net/conv2d", "net/conv2d_1", "drop", "net/end"}


def test_layers_are_called_as_before_once_the_step_is_traced(model: keras.Model) -> None:
    assert [layer for layer in model.layers if "call" in vars(layer)] == []


def test_the_same_step_has_the_same_fingerprint(model: keras.Model, program: Program) -> None:
    again = traced_program(model, IMAGES, rows=2)
    larger = traced_program(model, IMAGES, rows=3)
    assert again.fingerprint == program.fingerprint
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
