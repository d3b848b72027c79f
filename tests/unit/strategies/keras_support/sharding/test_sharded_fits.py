"""Unusual fits: few examples, small variables, frozen layers, another optimizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    Program,
    X,
    Y,
    assert_like_one_device,
    found,
)

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.thorough,
    pytest.mark.usefixtures("in_double_precision"),
]

L = keras.layers
OPTIMIZERS = keras.optimizers


@pytest.fixture(scope="module")
def sharded() -> Callable[[int], tf.distribute.Strategy]:
    made: dict[int, tf.distribute.Strategy] = {}

    def at(stage: int) -> tf.distribute.Strategy:
        if stage not in made:
            made[stage] = strategies.mirrored_strategy(3, shard=stage)
        return made[stage]

    return at


def layers() -> list[Any]:
    return [keras.Input((3,)), L.Dense(5, "tanh", name="hidden"), L.Dense(2, name="last")]


def compiled(model: Any, optimizer: Any = "adam", **options: Any) -> Any:
    model.compile(optimizer, "mse", **options)
    return model


def fitted(model: Any, rows: int = 22, **options: Any) -> Any:
    arguments: dict[str, Any] = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    return model.fit(X[:rows], Y[:rows], **arguments | options)


class Factor(keras.Layer):
    """Multiplies by a scalar that is learned."""

    def build(self, _: Any) -> None:
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor


def one_example(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = compiled(keras.Sequential(layers()))
    return found(model, fitted(model, rows=1))


def two_examples_a_batch(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = compiled(keras.Sequential(layers()))
    return found(model, fitted(model, batch_size=2))


def not_built(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = compiled(keras.Sequential(layers()[1:]))
    return found(model, fitted(model))


def variables_of_one_element(strategy: tf.distribute.Strategy) -> Found:
    """A scalar, vectors and a matrix."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), L.Dense(1), L.Dense(1), Factor(), L.Dense(2)])
        compiled(model, OPTIMIZERS.Adam(0.01, clipnorm=0.1))
    return found(model, fitted(model))


class Nothing(keras.Layer):
    """Has weights without any element."""

    def build(self, input_shape: Any) -> None:
        self.empty = [self.add_weight(shape=shape) for shape in ((0,), (0, 5), (3, 0))]

    def call(self, inputs: Any) -> Any:
        return inputs + sum(keras.ops.sum(each) for each in self.empty)


def variables_of_no_element(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), Nothing(), L.Dense(2)])
        compiled(model, OPTIMIZERS.Adam(0.01, global_clipnorm=0.1))
    return found(model, fitted(model))


def empty_variables_of_owners(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), Nothing(), L.Dense(2)])
        compiled(model, OPTIMIZERS.Lamb(0.01))
    return found(model, fitted(model))


def one_layer_and_plain_sgd(strategy: tf.distribute.Strategy) -> Found:
    """As many variables of the model as the optimizer has of its own."""
    with strategy.scope():
        model = compiled(keras.Sequential([keras.Input((3,)), L.Dense(2)]), OPTIMIZERS.SGD(0.1))
    return found(model, fitted(model))


def nothing_to_train(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = keras.Sequential(layers())
        model.trainable = False
        compiled(model)
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        history = fitted(model)
    return found(model, history)


def frozen_and_unfrozen(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = keras.Sequential(layers())
        model.get_layer("hidden").trainable = False
        compiled(model)
    fitted(model)
    model.get_layer("hidden").trainable = True
    with strategy.scope():
        compiled(model, OPTIMIZERS.AdamW(0.01))
    return found(model, fitted(model))


def frozen_from_the_first(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        hidden = L.Dense(5, "tanh", trainable=False)
        model = compiled(keras.Sequential([keras.Input((3,)), hidden, L.Dense(2)]))
    fitted(model)
    hidden.trainable = True
    with strategy.scope():
        compiled(model, OPTIMIZERS.AdamW(0.01))
    return found(model, fitted(model))


def another_kind_of_optimizer(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = compiled(keras.Sequential(layers()), OPTIMIZERS.Adam(0.01))
    fitted(model)
    with strategy.scope():
        compiled(model, OPTIMIZERS.Lamb(0.01))
    fitted(model)
    with strategy.scope():
        compiled(model, OPTIMIZERS.Adam(0.01))
    return found(model, fitted(model))


def cloned(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = compiled(keras.Sequential(layers()))
    fitted(model)
    with strategy.scope():
        clone = compiled(keras.models.clone_model(model))
        clone.set_weights(model.get_weights())
    return found(clone, fitted(clone))


def several_steps_an_execution(strategy: tf.distribute.Strategy) -> Found:
    """Stock Keras takes one at a time: neither may change the results."""
    is_ours = strategy is not tf.distribute.get_strategy()
    with strategy.scope():
        steps = 4 if is_ours else 1
        model = compiled(keras.Sequential(layers()), "adam", steps_per_execution=steps)
    return found(model, fitted(model, batch_size=4))


PROGRAMS: tuple[Program, ...] = (
    one_example,
    two_examples_a_batch,
    not_built,
    variables_of_one_element,
    variables_of_no_element,
    empty_variables_of_owners,
    one_layer_and_plain_sgd,
    nothing_to_train,
    frozen_and_unfrozen,
    frozen_from_the_first,
    another_kind_of_optimizer,
    cloned,
    several_steps_an_execution,
)


@pytest.mark.parametrize("stage", [1, 3])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_fit_is_that_of_one_device(
    program: Program, stage: int, sharded: Callable[[int], tf.distribute.Strategy]
) -> None:
    assert_like_one_device(program, sharded(stage))


@pytest.mark.parametrize("stage", [1, 3])
def test_weights_of_one_device_are_trained_on(
    stage: int, sharded: Callable[[int], tf.distribute.Strategy], tmp_path: Path
) -> None:
    file = tmp_path / "trained.weights.h5"
    trained = compiled(keras.Sequential(layers()))
    fitted(trained)
    trained.save_weights(file)

    def loaded(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = compiled(keras.Sequential(layers()))
        model.load_weights(file)
        return found(model, fitted(model))

    assert_like_one_device(loaded, sharded(stage))


class TwoOptimizers(keras.Sequential):
    """Updates the same variables by two optimizers."""

    other: Any = None

    def train_step(self, data: Any) -> dict[str, Any]:
        inputs, targets = data
        for optimizer in (self.optimizer, self.other):
            with tf.GradientTape() as tape:
                loss = self.compute_loss(inputs, targets, self(inputs))
            weights = self.trainable_weights
            optimizer.apply(tape.gradient(loss, weights), weights)
        return {"own": loss}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_optimizers_that_divide_a_variable_differently_are_refused(
    stage: int, sharded: Callable[[int], tf.distribute.Strategy]
) -> None:
    with sharded(stage).scope():
        model = compiled(TwoOptimizers(layers()), OPTIMIZERS.Adam(0.01))
        model.other = OPTIMIZERS.Lamb(0.01)
        model.optimizer.build(model.trainable_weights)
        model.other.build(model.trainable_weights)
    with pytest.raises(ValueError, match=r"last one that was built for .*Received: 'adam"):
        fitted(model)


def test_optimizers_that_divide_a_variable_alike_take_turns(
    sharded: Callable[[int], tf.distribute.Strategy],
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = compiled(TwoOptimizers(layers()), OPTIMIZERS.Adam(0.01))
            model.other = OPTIMIZERS.RMSprop(0.01)
            model.other.build(model.trainable_weights)
        history = fitted(model)
        slots = {f"slot {i}": np.array(v.numpy()) for i, v in enumerate(model.other.variables)}
        return found(model, history, **slots)

    assert_like_one_device(program, sharded(3))
