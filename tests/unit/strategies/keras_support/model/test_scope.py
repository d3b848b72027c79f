"""A model made inside the scope trains equally wherever it is compiled."""

from __future__ import annotations

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


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


def made(strategy: tf.distribute.Strategy) -> tuple[Any, Any]:
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        return model, keras.optimizers.SGD(0.05)


@pytest.mark.parametrize(
    "batch_size",
    [pytest.param(4, marks=pytest.mark.thorough), 3, 1],  # 3 is uneven from the first
)
def test_a_model_compiled_outside_the_scope_matches_one_device(
    strategy: tf.distribute.Strategy, batch_size: int
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        model, optimizer = made(strategy)
        model.compile(optimizer, "mse", metrics=["mae", keras.losses.mean_squared_error])
        options = {"batch_size": batch_size, "verbose": 0}
        data = (X[:7], Y[:7])
        history = model.fit(*data, shuffle=False, validation_data=data, **options)
        return found(model, history, evaluated=model.evaluate(*data, **options))

    assert_like_one_device(program, strategy)


def test_two_losses_and_an_optimizer_by_name_outside_the_scope(
    strategy: tf.distribute.Strategy,
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            inputs = keras.Input((3,))
            outputs = {name: keras.layers.Dense(2, name=name)(inputs) for name in ("a", "b")}
            model = keras.Model(inputs, outputs)
        model.compile("sgd", {"a": "mse", "b": "mae"})
        targets = {"a": Y, "b": Y}
        return found(model, model.fit(X, targets, batch_size=5, shuffle=False, verbose=0))

    assert_like_one_device(program, strategy)


def test_an_optimizer_object_made_outside_is_refused_by_name(
    strategy: tf.distribute.Strategy,
) -> None:
    model, _ = made(strategy)
    model.compile(keras.optimizers.SGD(0.05, name="stray"), "mse")
    with pytest.raises(ValueError, match=r"`optimizer` 'stray' must be made inside"):
        model.fit(X, Y, verbose=0)


def test_a_model_of_another_strategy_is_compiled_unchanged() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    assert not isinstance(model.optimizer.iterations.value, tf.distribute.DistributedValues)
    assert np.isfinite(model.evaluate(X, Y, verbose=0))
