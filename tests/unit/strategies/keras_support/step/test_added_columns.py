"""A number for each row is added by rows, however many rows a replica has.

Four columns, and two replicas: stock Keras on one device is right in a batch of eight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    X,
    Y,
    assert_like_one_device,
    found,
)

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]
L, ops = keras.layers, keras.ops
ROWS, COLUMN = np.arange(16.0).reshape(4, 4), np.arange(4.0).reshape(4, 1)


@pytest.fixture(scope="module")
def two() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


class Adds(keras.layers.Layer):
    """Adds to each row its largest number, in its call."""

    def call(self, x: Any) -> Any:
        return ops.add(x, ops.max(x, axis=-1, keepdims=True))


def by_layer(x: Any) -> Any:
    return Adds()(x)


def by_operator(x: Any) -> Any:
    return x + ops.max(x, axis=-1, keepdims=True)


def by_merging_layer(x: Any) -> Any:
    return L.Add()([x, L.Dense(1)(x)])


def by_longer_rows(x: Any) -> Any:
    x = L.Reshape((2, 4))(L.Dense(8)(x))
    return L.Flatten()(ops.add(x, ops.max(x, axis=(1, 2), keepdims=True)))


thorough = pytest.mark.thorough


@pytest.mark.parametrize(
    "added",
    [
        by_layer,
        by_operator,
        pytest.param(by_merging_layer, marks=thorough),
        pytest.param(by_longer_rows, marks=thorough),
    ],
)
def test_two_replicas_train_what_one_device_trains(
    added: Callable[[Any], Any], two: tf.distribute.Strategy
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            inputs = keras.Input((3,))
            outputs = L.Dense(2)(added(L.Dense(4)(inputs)))
            model = keras.Model(inputs, outputs)
            model.compile(keras.optimizers.SGD(0.05), "mse")
        return found(model, model.fit(X[:16], Y[:16], batch_size=8, epochs=2, verbose=0))

    assert_like_one_device(program, two)


def test_other_summands_are_added_as_numpy_adds_them(two: tf.distribute.Strategy) -> None:
    pairs: list[tuple[Any, Any]] = [
        (ROWS, COLUMN),
        (COLUMN, ROWS),
        (ROWS, COLUMN.T),
        (ROWS, ROWS),
        (ROWS, COLUMN[:1]),
    ]
    pairs += [(ROWS[:1], COLUMN[:1]), (ROWS[0], COLUMN[:, 0]), (ROWS, 2.0), (1.0, ROWS)]
    pairs += [(ROWS[..., None] + COLUMN[:, 0], COLUMN[..., None])]
    with two.scope():
        for one, other in pairs:
            np.testing.assert_array_equal(ops.add(one, other), one + other)


def test_without_a_strategy_of_this_package_keras_adds(two: tf.distribute.Strategy) -> None:
    del two
    stock: Any = ops.add
    np.testing.assert_array_equal(ops.add(ROWS, COLUMN), stock.__tfscale_original__(ROWS, COLUMN))


def test_sparse_tensors_and_variables_are_added(two: tf.distribute.Strategy) -> None:
    column = tf.sparse.from_dense(COLUMN)
    with two.scope():
        np.testing.assert_array_equal(
            tf.sparse.to_dense(ops.add(tf.sparse.from_dense(COLUMN), column)), 2 * COLUMN
        )
        np.testing.assert_array_equal(ops.add(keras.Variable(ROWS), COLUMN), ROWS + COLUMN)
