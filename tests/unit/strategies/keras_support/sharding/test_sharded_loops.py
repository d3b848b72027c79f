"""Gradients outside of `fit`, of variables in parts: in `strategy.run`, and outside of a scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    X,
    Y,
    assert_like_one_device,
    found,
)
from tests.unit.strategies.keras_support.sharding.trainings import Sharded

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

IDS = np.array([[0, 1], [1, 2], [4, 1], [1, 1], [3, 3], [0, 5], [6, 2], [2, 2]])
ROWS = 8


def compiled(strategy: tf.distribute.Strategy) -> Any:
    """With a table that is cut by rows, and one that is cut by columns."""
    with strategy.scope():
        ids, inputs = keras.Input((2,), dtype="int32"), keras.Input((3,))
        looked_up = [keras.layers.Embedding(7, width)(ids) for width in (3, 9)]
        flat = [keras.layers.Flatten()(each) for each in looked_up]
        hidden = keras.layers.Concatenate()([*flat, keras.layers.Dense(5, "tanh")(inputs)])
        model = keras.Model([ids, inputs], keras.layers.Dense(2)(hidden))
        model.compile(keras.optimizers.Adam(0.02, global_clipnorm=0.1), "mse")
    return model


def state(model: Any, **more: Any) -> Found:
    slots = {f"slot {i}": v.numpy() for i, v in enumerate(model.optimizer.variables)}
    return found(model, **slots, **more)


def update(model: Any, ids: Any, inputs: Any, targets: Any, of: int = ROWS) -> Any:
    """Applies the gradient of a sum of squares, divided by the rows of the batch."""
    with tf.GradientTape() as tape:
        error = model([ids, inputs], training=True) - targets
        loss = tf.reduce_sum(tf.square(error)) / of
    gradients = tape.gradient(loss, model.trainable_variables)
    model.optimizer.apply(gradients, model.trainable_variables)
    return loss


@pytest.mark.parametrize(
    "stage", [1, *(pytest.param(stage, marks=pytest.mark.thorough) for stage in (2, 3))]
)
def test_updates_outside_of_the_scope_are_those_of_one_device(stage: int, sharded: Sharded) -> None:
    data = tf.constant(IDS), tf.constant(X[:ROWS]), tf.constant(Y[:ROWS])

    def program(strategy: tf.distribute.Strategy) -> Found:
        model = compiled(strategy)
        first = update(model, *data)
        second = tf.function(update)(model, *data)
        fitted = model.fit([IDS, X[:ROWS]], Y[:ROWS], batch_size=4, shuffle=False, verbose=0)
        return state(model, losses=[first, second, *fitted.history["loss"]])

    assert_like_one_device(program, sharded(stage, 3))


@pytest.mark.parametrize(
    ("stage", "is_function"),
    [
        (3, True),
        *(pytest.param(stage, True, marks=pytest.mark.thorough) for stage in (1, 2)),
        *(pytest.param(stage, False, marks=pytest.mark.thorough) for stage in (1, 2, 3)),
    ],
)
def test_a_loop_with_run_is_that_of_one_device(
    stage: int, is_function: bool, sharded: Sharded
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        model = compiled(strategy)
        data = tf.data.Dataset.from_tensor_slices((IDS, X[:ROWS], Y[:ROWS])).batch(ROWS).repeat(2)

        def step(*batch: Any) -> Any:
            return strategy.run(lambda *own: update(model, *own), args=batch)

        call: Callable[..., Any] = tf.function(step) if is_function else step
        with strategy.scope():
            model.optimizer.build(model.trainable_variables)
        for batch in strategy.experimental_distribute_dataset(data):
            call(*batch)
        return state(model)

    assert_like_one_device(program, sharded(stage, 2))


def owned(strategy: tf.distribute.Strategy) -> Any:
    """Whose optimizer divides parameters in another way than they are divided without one."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(6, "tanh", name="first")])
        model.add(keras.layers.Dense(2))
        model.compile(keras.optimizers.Lamb(0.05), "mse")
    return model


def test_what_was_predicted_before_is_predicted_anew_after_a_fit(sharded: Sharded) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        model = owned(strategy)
        part = keras.Model(model.inputs, model.get_layer("first").output)
        shown = []
        for _ in range(2):
            shown += [model.predict(X, verbose=0).mean(), part.predict(X, verbose=0).mean()]
            shown += [model.evaluate(X, Y, verbose=0)]
            model.fit(X, Y, batch_size=11, shuffle=False, verbose=0)
        return found(model, shown=shown)

    assert_like_one_device(program, sharded(3, 2))


def test_a_function_that_reads_old_parts_is_no_silent_one(sharded: Sharded) -> None:
    model = owned(sharded(3, 2))
    read = tf.function(lambda: model.weights[0] + 0.0)
    np.testing.assert_array_equal(read(), model.weights[0].numpy())
    model.fit(X, Y, batch_size=11, verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="is_built_before_it_is_traced"):
        read()


def test_an_optimizer_is_built_before_the_function_that_it_updates_in(sharded: Sharded) -> None:
    model = owned(sharded(3, 2))

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(tf.constant(X)))
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)

    with pytest.raises(ValueError, match="must be built before its first step is traced"):
        step()
