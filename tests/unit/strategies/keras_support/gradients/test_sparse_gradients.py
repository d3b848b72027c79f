"""Rows of a table are squared as on one device, wherever their indices come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    Program,
    assert_like_one_device,
    found,
)

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

ops = keras.ops
DRAW = np.random.default_rng(5)
IDS = DRAW.integers(0, 6, size=[22, 4])
IDS[0] = [1, 1, 1, 2]  # an id repeated within an example, and in those of other replicas
IDS[5] = [1, 2, 2, 2]
TARGETS = DRAW.normal(size=[22, 1])
OPTIMIZERS = ("Adam", "Adagrad", "RMSprop", "SGD")


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.thorough)])
def strategy(request: pytest.FixtureRequest) -> tf.distribute.Strategy:
    strategies.mirrored_strategy(3)  # TensorFlow must have all three before it starts
    return strategies.mirrored_strategy(request.param)


class Tables(keras.layers.Layer):
    """Looks up rows of tables in the ways of `kinds`."""

    def __init__(self, *kinds: str) -> None:
        super().__init__()
        self.kinds = kinds
        self.table = keras.layers.Embedding(6, 3)

    def build(self, input_shape: Any) -> None:
        self.table.build()

    def call(self, ids: Any) -> Any:
        total = 0.1 * ops.cast(ids, "float64")[:, :, None]
        for kind in self.kinds:
            if kind == "unique":
                unique, places = tf.unique(tf.reshape(ids, [-1]))
                rows = tf.gather(self.table(unique), tf.reshape(places, tf.shape(ids)))
            else:
                rows = self.table(self.indices(kind, ids))
            total = total + rows
        return total

    def indices(self, kind: str, ids: Any) -> Any:
        if kind == "tokens":
            return ids
        if kind == "positions":
            return ops.arange(4)
        if kind == "lengths":  # known only when the graph runs
            return tf.range(tf.shape(ids)[1])
        if kind == "last_length":
            return tf.range(tf.shape(ids)[-1])
        if kind == "unstacked_length":
            return tf.range(tf.unstack(tf.shape(ids))[1])
        if kind == "position_twice":
            return ops.array([0, 1, 1, 0])
        assert kind == "first_column"
        return ops.repeat(ids[:, :1], 4, axis=1)


LOOKUPS = (
    ("tokens",),
    ("positions",),
    ("lengths",),
    ("last_length",),
    ("unstacked_length",),
    ("position_twice",),
    ("unique",),
    ("unique", "tokens"),
    ("tokens", "positions"),
    ("positions", "tokens", "first_column"),
)


def training(
    *tables: tuple[str, ...], optimizers: Sequence[str] = OPTIMIZERS, is_eager: bool = False
) -> Program:
    """Returns a program that trains tables, each looked up in some ways, with some optimizers."""

    def program(each: tf.distribute.Strategy) -> Found:
        shown: Found = {}
        for optimizer in optimizers:
            keras.utils.set_random_seed(3)
            with each.scope():
                inputs = keras.Input((None,), dtype="int32")
                rows = sum(Tables(*kinds)(inputs) for kinds in tables)
                pooled = keras.layers.GlobalAveragePooling1D()(rows)
                model = keras.Model(inputs, keras.layers.Dense(1)(pooled))
                rate = {"class_name": optimizer, "config": {"learning_rate": 0.05}}
                model.compile(keras.optimizers.get(rate), "mse", run_eagerly=is_eager)
            history = model.fit(IDS, TARGETS, batch_size=7, epochs=2, shuffle=False, verbose=0)
            shown |= {f"{optimizer} {name}": v for name, v in found(model, history).items()}
        return shown

    return program


def test_tables_match_one_device(strategy: tf.distribute.Strategy) -> None:
    assert_like_one_device(training(*LOOKUPS, optimizers=("Adam",)), strategy)


@pytest.mark.parametrize(
    "optimizer",
    # Adam, above, squares rows as RMSprop does.
    ["Adagrad", pytest.param("RMSprop", marks=pytest.mark.thorough), "SGD"],
)
def test_every_optimizer_matches_one_device(
    strategy: tf.distribute.Strategy, optimizer: str
) -> None:
    tables = training(("tokens", "positions"), optimizers=(optimizer,))
    assert_like_one_device(tables, strategy)


@pytest.mark.thorough
@pytest.mark.parametrize("is_eager", [False, True], ids=["graph", "eager"])
@pytest.mark.parametrize("kinds", LOOKUPS, ids="-".join)
def test_a_table_alone_matches_one_device(
    strategy: tf.distribute.Strategy, kinds: tuple[str, ...], is_eager: bool
) -> None:
    if is_eager and strategy.num_replicas_in_sync == 3:
        pytest.skip("eager steps are slow; two replicas show them")
    optimizers = OPTIMIZERS[: 1 if is_eager else None]
    tables = training(kinds, optimizers=optimizers, is_eager=is_eager)
    assert_like_one_device(tables, strategy)


def test_a_sparse_input_has_unique_rows_in_the_whole_batch(
    strategy: tf.distribute.Strategy,
) -> None:
    dense = DRAW.normal(size=[22, 9]) * (DRAW.random([22, 9]) < 0.3)
    rows = tf.sparse.from_dense(dense)

    def program(each: tf.distribute.Strategy) -> Found:
        with each.scope():
            model = keras.Sequential(
                [keras.Input((9,), sparse=True), keras.layers.Dense(4), keras.layers.Dense(1)]
            )
            model.compile(keras.optimizers.Adam(0.05), "mse")
        data = tf.data.Dataset.from_tensor_slices((rows, TARGETS)).batch(7)
        return found(model, model.fit(data, epochs=2, verbose=0))

    assert_like_one_device(program, strategy)
