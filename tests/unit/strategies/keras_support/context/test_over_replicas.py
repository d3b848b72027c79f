"""Sums, ratios, means and rows of the whole batch, against the same step on one device."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    X,
    Y,
    assert_like_one_device,
)
from tests.unit.strategies.keras_support.steps_over_replicas import STEPS, Centred, trained

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    """Three replicas: of 22 examples in batches of 7 they have 3, 2, 2 and at last 1, 0, 0."""
    return strategies.mirrored_strategy(3)


def by_name(step: type[Any]) -> str:
    return step.__name__


@pytest.mark.parametrize("step", STEPS, ids=by_name)
def test_a_step_over_the_whole_batch_matches_one_device(
    strategy: tf.distribute.Strategy, step: type[Any]
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        return trained(strategy, step, 7)

    assert_like_one_device(program, strategy)


@pytest.mark.parametrize(
    "step",
    # Eagerly, all take one way; in a graph, each is compiled to its own.
    [STEPS[0], *(pytest.param(step, marks=pytest.mark.thorough) for step in STEPS[1:])],
    ids=by_name,
)
def test_a_step_that_runs_eagerly_matches_one_device(
    strategy: tf.distribute.Strategy, step: type[Any]
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        return trained(strategy, step, 8, eagerly=True)

    assert_like_one_device(program, strategy)


class Inside(Centred):
    def train_step(self, data: Any) -> dict[str, Any]:
        x, _ = data
        count = tf.cast(tf.shape(x)[0], tf.float64)
        return {"own": tf.cond(count > 0, lambda: tfscale.mean_over_replicas(count), lambda: count)}


def test_a_call_inside_a_condition_is_refused(strategy: tf.distribute.Strategy) -> None:
    with pytest.raises(ValueError, match=r"`mean_over_replicas` must be called in `train_step`"):
        trained(strategy, Inside, 7)


class Rows(Centred):
    def train_step(self, data: Any) -> dict[str, Any]:
        return {"own": tf.reduce_sum(tfscale.sum_over_replicas(data[0] > 0))}


def test_rows_are_not_summed_over_replicas(strategy: tf.distribute.Strategy) -> None:
    with pytest.raises(ValueError, match=r"`value` must have the same shape on all replicas"):
        trained(strategy, Rows, 7)


class Gathered(keras.Sequential):
    """Gathers its input, also in other dtypes."""

    def test_step(self, data: Any) -> dict[str, Any]:
        x, _ = data
        order = tf.range(tf.shape(tfscale.all_gather(x))[0]) + 1
        ids = tf.cast(x[:, 0], tf.int64)
        weights = tf.cast(order, tf.float64)
        kinds = (tf.cast(ids, tf.uint8), ids, ids > 3, tf.cast(ids, tf.bfloat16))
        sums = [tf.reduce_sum(tf.cast(tfscale.all_gather(k), tf.float64) * weights) for k in kinds]
        return {f"of {i}": total for i, total in enumerate(sums)}


@pytest.mark.parametrize("rows", [8, 7, 2])
def test_rows_come_in_the_order_of_the_batch(strategy: tf.distribute.Strategy, rows: int) -> None:
    with strategy.scope():
        model = Gathered([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd")
    ids = np.arange(rows)
    x = np.stack([ids] * 3, axis=1).astype("float64")
    found = model.evaluate(x, Y[:rows], batch_size=rows, verbose=0, return_dict=True)
    weighted = float(np.sum(ids * (ids + 1)))
    above = float(np.sum((ids > 3) * (ids + 1)))
    assert [found[f"of {i}"] for i in range(4)] == [weighted, weighted, above, weighted]


def test_rows_of_strings_are_refused(strategy: tf.distribute.Strategy) -> None:
    class Strings(keras.Sequential):
        def test_step(self, data: Any) -> dict[str, Any]:
            return {"own": tf.shape(tfscale.all_gather(tf.as_string(data[0])))[0]}

    with strategy.scope():
        model = Strings([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd")
    with pytest.raises(ValueError, match=r"`rows` must be a tensor of numbers.*dtype string"):
        model.evaluate(X, Y, verbose=0)


def test_outside_a_step_they_are_plain_arithmetic() -> None:
    rows = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    assert tfscale.all_gather(rows) is rows
    assert tfscale.mean_over_replicas(rows) is rows
    assert tfscale.sum_over_replicas(rows) is rows
    assert int(tfscale.sum_over_replicas(tf.constant(True))) == 1
    assert float(tfscale.mean_over_replicas(tf.constant(3))) == 3.0
    assert float(tfscale.ratio_over_replicas(tf.constant(3), tf.constant(4))) == 0.75
    assert float(tfscale.ratio_over_replicas(tf.constant(3.0), tf.constant(0))) == 0.0


def test_a_layer_that_gathers_can_be_built_functionally() -> None:
    class Gathering(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            mean = tfscale.mean_over_replicas(keras.ops.mean(inputs, axis=0))
            ratio = tfscale.ratio_over_replicas(keras.ops.sum(inputs), keras.ops.sum(inputs))
            return tfscale.all_gather(inputs) - mean + ratio

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Gathering()(inputs))
    np.testing.assert_allclose(model(X), X - X.mean(0) + 1, rtol=1e-12)
