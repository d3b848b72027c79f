"""Steps that update or assign sharded parameters and read them again, at stage 3."""

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

L = keras.layers
IDS = np.random.default_rng(4).integers(0, 17, size=(22, 3))


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(3, shard=3)


class OwnStep(keras.Model):
    """A model with one layer, whose step the tests override."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(2)
        self.dense.build((None, 3))

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def loss_of(self, data: Any) -> Any:
        inputs, targets = data
        return self.compute_loss(inputs, targets, self(inputs))

    def update(self, data: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = self.loss_of(data)
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        return loss


class TwoUpdates(OwnStep):
    def train_step(self, data: Any) -> dict[str, Any]:
        self.update(data)
        return {"own": self.update(data)}


class GradientAfterAnUpdate(OwnStep):
    """The second gradient is that of a forward pass before the update."""

    def train_step(self, data: Any) -> dict[str, Any]:
        weights = self.trainable_weights
        with tf.GradientTape(persistent=True) as tape:
            loss = self.loss_of(data)
            squares = tf.reduce_mean(tf.square(self(data[0])) ** 2)
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        self.optimizer.apply(tape.gradient(squares, weights), weights)
        return {"own": self.loss_of(data)}


class TwoTapes(OwnStep):
    """The second tape has not seen what was gathered for the first."""

    def train_step(self, data: Any) -> dict[str, Any]:
        weights = self.trainable_weights
        with tf.GradientTape() as tape:
            loss = self.loss_of(data)
        with tf.GradientTape() as second:
            squares = tf.reduce_mean(tf.square(self(data[0])))
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        self.optimizer.apply(second.gradient(squares, weights), weights)
        return {"own": loss}


class Recomputed(OwnStep):
    """A recomputed layer in a recomputed function: three tapes, one inside of another."""

    def __init__(self) -> None:
        super().__init__()
        self.first = L.Dense(3, "tanh")
        self.first.build((None, 3))

    def call(self, inputs: Any) -> Any:
        is_ours = tf.distribute.has_strategy()
        return keras.remat(self.inner)(inputs) if is_ours else self.dense(self.first(inputs))

    def inner(self, inputs: Any) -> Any:
        return keras.remat(self.dense)(self.first(inputs))


class AssignedInTheStep(OwnStep):
    def train_step(self, data: Any) -> dict[str, Any]:
        loss = self.update(data)
        kernel = self.dense.kernel
        kernel.assign(kernel / tf.norm(kernel.value))
        kernel.assign_add(tf.ones_like(kernel.value))
        return {"own": loss, "after": self.loss_of(data)}


class UpdatedInACondition(OwnStep):
    """All of its updates are of parts only."""

    def train_step(self, data: Any) -> dict[str, Any]:
        weights = self.trainable_weights
        with tf.GradientTape() as tape:
            loss = self.loss_of(data)
        gradients = tape.gradient(loss, weights)

        def apply() -> tf.Tensor:
            self.optimizer.apply(gradients, weights)
            return tf.constant(1)

        is_even = tf.equal(tf.convert_to_tensor(self.optimizer.iterations) % 2, 0)
        tf.cond(is_even, apply, lambda: tf.constant(0))
        self.optimizer.iterations.assign_add(1)
        return {"own": loss}


class AssignedInACondition(OwnStep):
    def train_step(self, data: Any) -> dict[str, Any]:
        def assign() -> tf.Tensor:
            self.dense.kernel.assign(tf.ones([3, 2], tf.float64))
            return tf.constant(0)

        tf.cond(tf.constant(True), assign, lambda: tf.constant(0))
        return {"own": self.update(data)}


class ReadInACondition(OwnStep):
    def train_step(self, data: Any) -> dict[str, Any]:
        self.update(data)
        kernel = self.dense.kernel
        loss = tf.cond(
            tf.constant(True),
            lambda: tf.reduce_sum(kernel.value),
            lambda: tf.constant(0.0, tf.float64),
        )
        return {"own": loss}


class HalvedGradients(OwnStep):
    def train_step(self, data: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = self.loss_of(data)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply([g / 2.0 for g in gradients], self.trainable_weights)
        return {"own": loss}


class LookedUp(OwnStep):
    """Asks for the gradient of one layer, and then for that of all."""

    def __init__(self) -> None:
        keras.Model.__init__(self)
        self.table = L.Embedding(17, 4)
        self.table.build((None, 3))
        self.dense = L.Dense(2)
        self.dense.build((None, 12))

    def call(self, inputs: Any) -> Any:
        return self.dense(keras.ops.reshape(self.table(inputs), (-1, 12)))

    def train_step(self, data: Any) -> dict[str, Any]:
        weights = self.trainable_weights
        with tf.GradientTape(persistent=True) as tape:
            loss = self.loss_of(data)
        tape.gradient(loss, self.dense.trainable_weights)
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"own": loss}


def adam() -> Any:
    return keras.optimizers.Adam(0.05)


def clipped() -> Any:
    return keras.optimizers.AdamW(0.05, global_clipnorm=0.1)


def program(
    build: Callable[[], Any], optimizer: Callable[[], Any] = adam, **options: Any
) -> Callable[[tf.distribute.Strategy], Found]:
    """Returns the training of a model with two epochs of 8, 8 and 6 examples."""

    def trained(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = build()
            model.compile(optimizer(), "mse", **options)
            model.optimizer.build(model.trainable_weights)
        inputs = IDS if isinstance(model, LookedUp) else X
        history = model.fit(inputs, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        return found(model, history)

    return trained


def test_a_second_update_reads_what_the_first_one_wrote(strategy: tf.distribute.Strategy) -> None:
    assert_like_one_device(program(TwoUpdates), strategy)


def test_a_recomputed_layer_has_a_gradient(strategy: tf.distribute.Strategy) -> None:
    assert_like_one_device(program(Recomputed), strategy)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "build",
    [TwoUpdates, TwoTapes, GradientAfterAnUpdate, AssignedInTheStep, UpdatedInACondition, LookedUp],
)
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_step_reads_and_writes_in_the_order_of_its_program(
    build: Callable[[], Any], run_eagerly: bool, strategy: tf.distribute.Strategy
) -> None:
    assert_like_one_device(program(build, run_eagerly=run_eagerly), strategy)


@pytest.mark.thorough
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_rows_of_a_lookup_are_clipped_as_on_one_device(
    run_eagerly: bool, strategy: tf.distribute.Strategy
) -> None:
    assert_like_one_device(program(LookedUp, clipped, run_eagerly=run_eagerly), strategy)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("build", "optimizer", "message"),
    [
        (AssignedInACondition, adam, "`kernel` must not be assigned inside a tf.cond"),
        (ReadInACondition, adam, "`kernel` must not be read inside a tf.cond"),
        (UpdatedInACondition, clipped, "`optimizer.apply` of '.*' must not be called inside"),
        (HalvedGradients, adam, "is sharded, so only `optimizer.apply` can use it"),
    ],
)
def test_what_replicas_cannot_do_together_is_refused(
    build: Any, optimizer: Any, message: str, strategy: tf.distribute.Strategy
) -> None:
    with pytest.raises(ValueError, match=message):
        program(build, optimizer)(strategy)
