"""Losses with a value per row: averaged by the user, summed by Keras, or passed to a metric."""

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
    """Three replicas: of seven examples they have 3, 2 and 2, of one 1, 0 and 0."""
    return strategies.mirrored_strategy(3)


def each_error() -> Any:
    return keras.losses.MeanSquaredError(reduction="none")


class AveragedInStep(keras.Sequential):
    """keras.io's image captioning and masked language model: the step computes the mean."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(each_error()(y, self(x, training=True)))
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        return {"own": loss}

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        return {"own": tf.reduce_mean(each_error()(y, self(x, training=False)))}


class SummedInStep(AveragedInStep):
    """Computes a sum by a loss object whose reduction is a sum."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            error = keras.losses.MeanSquaredError(reduction="sum")
            loss = error(y, self(x, training=True)) * 0.01
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        return {"own": loss}


class Averaged(keras.losses.Loss):
    """keras.io's named entity recognition: a loss class around one that is not reduced."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(each_error()(y_true, y_pred))


class Weighted(keras.losses.Loss):
    def call(self, y_true: Any, y_pred: Any) -> Any:
        return each_error()(y_true, y_pred, sample_weight=keras.ops.exp(y_true[:, 0]))


class Endpoint(keras.layers.Layer):
    """keras.io's CTC endpoint layer: the loss of each example, of shape [rows, 1]."""

    def __init__(self, column: bool = True, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.column = column

    def call(self, inputs: Any) -> Any:
        loss = keras.ops.sum(keras.ops.square(inputs), axis=-1, keepdims=self.column)
        self.add_loss(0.01 * loss)
        return inputs


class OfFeatures(keras.layers.Layer):
    """Adds a mean over the examples for each feature, and the size of each weight."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs: Any) -> Any:
        self.add_loss(keras.ops.mean(keras.ops.square(inputs), axis=0))
        self.add_loss(0.3 * keras.ops.abs(self.scale))
        return inputs * self.scale


def layers(*more: Any) -> list[Any]:
    return [keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones"), *more]


def fitted(model: Any, batch_size: int, **arguments: Any) -> Found:
    x, y = (X[:18], Y[:18]) if batch_size == 6 else (X, Y)
    history = model.fit(
        x, y, batch_size=batch_size, epochs=2, shuffle=False, verbose=0, **arguments
    )
    evaluated = model.evaluate(x, y, batch_size=batch_size, verbose=0)
    return found(model, history, evaluated=evaluated)


@pytest.mark.parametrize(
    ("step", "eagerly"), [(AveragedInStep, False), (AveragedInStep, True), (SummedInStep, False)]
)
def test_a_step_reduces_an_unreduced_loss_as_on_one_device(
    strategy: tf.distribute.Strategy, step: Any, eagerly: bool
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = step(layers())
            model.compile(keras.optimizers.SGD(0.1), run_eagerly=eagerly)
        # The log of a custom step is that of the last batch.
        return fitted(model, 7)

    assert_like_one_device(program, strategy)


@pytest.mark.parametrize(
    ("batch_size", "loss"),
    [
        (7, Averaged),  # 3, 2 and 2 examples, and at last 1, 0 and 0
        (2, Weighted),  # 1, 1 and 0
        pytest.param(7, Weighted, marks=pytest.mark.thorough),
        pytest.param(2, Averaged, marks=pytest.mark.thorough),
    ],
)
def test_a_loss_class_around_an_unreduced_loss_counts_once(
    strategy: tf.distribute.Strategy, loss: Any, batch_size: int
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = keras.Sequential(layers())
            model.compile(keras.optimizers.SGD(0.05), loss(), metrics=[each_error()])
        return fitted(model, batch_size)

    assert_like_one_device(program, strategy)


@pytest.mark.parametrize(
    ("column", "loss", "eagerly"),
    [
        (True, "mse", False),
        (False, None, False),
        # Eager steps are those of a custom step, above.
        pytest.param(True, "mse", True, marks=pytest.mark.thorough),
        pytest.param(False, "mse", True, marks=pytest.mark.thorough),
    ],
)
def test_a_vector_given_to_add_loss_is_summed_over_the_whole_batch(
    strategy: tf.distribute.Strategy, column: bool, loss: str | None, eagerly: bool
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = keras.Sequential(layers(Endpoint(column)))
            model.compile(keras.optimizers.SGD(0.05), loss, run_eagerly=eagerly)
        return fitted(model, 7)

    assert_like_one_device(program, strategy)


@pytest.mark.parametrize("batch_size", [7, 6])
def test_a_vector_over_features_or_weights_counts_unchanged(
    strategy: tf.distribute.Strategy, batch_size: int
) -> None:
    """Of batches of six a replica has two examples, as many as there are features."""

    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = keras.Sequential(layers(OfFeatures()))
            model.compile(keras.optimizers.SGD(0.05), "mse")
        return fitted(model, batch_size)

    assert_like_one_device(program, strategy)


def test_a_vector_is_summed_if_all_batches_have_the_same_known_size(
    strategy: tf.distribute.Strategy,
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = keras.Sequential(layers(Endpoint()))
            model.compile(keras.optimizers.SGD(0.05), "mse")
        return found(model, model.fit(X[:18], Y[:18], batch_size=6, shuffle=False, verbose=0))

    assert_like_one_device(program, strategy)


def test_a_replica_without_rows_adds_nothing_to_a_sum(strategy: tf.distribute.Strategy) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = keras.Sequential(layers(Endpoint()))
            model.compile(keras.optimizers.SGD(0.05), "mse")
        return found(model, model.fit(X[:1], Y[:1], epochs=2, verbose=0))

    assert_like_one_device(program, strategy)


def test_the_log_of_an_unreduced_loss_matches_one_device(
    strategy: tf.distribute.Strategy,
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = keras.Sequential(layers())
            model.compile(keras.optimizers.SGD(0.05), each_error())
        return {"loss": np.array(model.evaluate(X, Y, batch_size=7, verbose=0))}

    assert_like_one_device(program, strategy)


class Logged(keras.Sequential):
    """Has its own means, as keras.io's autoencoders and GANs do."""

    def __init__(self, parts: Any) -> None:
        super().__init__(parts)
        self.scalar = keras.metrics.Mean(name="scalar")
        self.rows = keras.metrics.Mean(name="rows")
        self.counted = keras.metrics.Mean(name="counted")
        self.rate = keras.metrics.Mean(name="rate")

    @property
    def metrics(self) -> list[Any]:
        return [self.scalar, self.rows, self.counted, self.rate]

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            errors = each_error()(y, self(x, training=True))
            loss = tf.reduce_mean(errors)
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        self.scalar.update_state(loss)
        self.rows.update_state(errors)
        self.counted.update_state(loss, sample_weight=tf.shape(x)[0])
        self.rate.update_state(self.optimizer.learning_rate)
        return {metric.name: metric.result() for metric in self.metrics}

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        self.scalar.update_state(tf.reduce_mean(each_error()(y, self(x, training=False))))
        return {"scalar": self.scalar.result()}


@pytest.mark.parametrize("eagerly", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_a_batch_counts_once_in_a_mean_that_gets_a_scalar(
    strategy: tf.distribute.Strategy, eagerly: bool
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = Logged(layers())
            model.compile(keras.optimizers.SGD(0.05), run_eagerly=eagerly)
        history = model.fit(X, Y, batch_size=7, epochs=2, shuffle=False, verbose=0)
        evaluated = model.evaluate(X, Y, batch_size=7, verbose=0, return_dict=True)
        return found(model, history, evaluated=evaluated["scalar"])

    assert_like_one_device(program, strategy)


def test_a_metric_function_that_returns_a_scalar_counts_a_batch_once(
    strategy: tf.distribute.Strategy,
) -> None:
    def absolute(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(keras.ops.abs(y_true - y_pred))

    def program(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = keras.Sequential(layers())
            model.compile(keras.optimizers.SGD(0.05), "mse", metrics=[absolute])
        return fitted(model, 7)

    assert_like_one_device(program, strategy)
