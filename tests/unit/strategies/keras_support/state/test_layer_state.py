"""The state of layers matches one device on every replica."""

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

EAGER = pytest.mark.parametrize(
    "is_eager",
    [pytest.param(False, id="graph"), pytest.param(True, id="eager", marks=pytest.mark.thorough)],
)

ops = keras.ops


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.thorough)])
def strategy(request: pytest.FixtureRequest) -> tf.distribute.Strategy:
    strategies.mirrored_strategy(3)  # TensorFlow must have all three before it starts
    return strategies.mirrored_strategy(request.param)


class Kept(keras.layers.Layer):
    """A layer with one variable that `move` updates in training."""

    aggregation = "none"
    dtype_of_state = "float64"
    size = 3

    def build(self, input_shape: Any) -> None:
        self.state = self.add_weight(
            shape=(self.size,),
            initializer="zeros",
            trainable=False,
            dtype=self.dtype_of_state,
            aggregation=self.aggregation,
            name="state",
        )

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.move(x)
        return x

    def move(self, x: Any) -> None:
        raise NotImplementedError


class RunningMean(Kept):
    def move(self, x: Any) -> None:
        self.state.assign(0.9 * self.state + 0.1 * ops.mean(x, axis=0))


class Centered(RunningMean):
    """Uses the mean that it has just updated."""

    def call(self, x: Any, training: bool = False) -> Any:
        return super().call(x, training) - self.state


class MeanAggregated(RunningMean):
    """TensorFlow would synchronize replicas at each write, and mix the penalties of layers."""

    aggregation = "mean"

    def call(self, x: Any, training: bool = False) -> Any:
        x = super().call(x, training)
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return x


class Total(Kept):
    aggregation = "sum"

    def move(self, x: Any) -> None:
        self.state.assign_add(ops.sum(x, axis=0))


class DecayedCounts(Kept):
    """The counts of a vector-quantised code: Van den Oord et al. 2017, arXiv:1711.00937, A.1."""

    aggregation = "sum"

    def move(self, x: Any) -> None:
        nearest = ops.one_hot(ops.argmax(x, axis=1), 3, dtype="float64")
        self.state.assign(0.99 * self.state + 0.01 * ops.sum(nearest, axis=0))


class ScaledTotal(Kept):
    aggregation = "sum"

    def move(self, x: Any) -> None:
        self.state.assign(0.5 * (self.state - ops.sum(x, axis=0)) / 2.0 + 1.0)


class Largest(Kept):
    """A running maximum, like the observers of quantization."""

    def move(self, x: Any) -> None:
        self.state.assign(ops.maximum(self.state, ops.max(x, axis=0)))


class Smallest(Kept):
    def move(self, x: Any) -> None:
        self.state.assign(ops.minimum(ops.min(x, axis=0), self.state))


class Examples(Kept):
    aggregation = "sum"
    dtype_of_state = "int64"
    size = 1

    def move(self, x: Any) -> None:
        self.state.assign_add([tf.shape(x, out_type=tf.int64)[0]])


class Annealed(Kept):
    """Counts its calls, which are the same on all replicas."""

    dtype_of_state = "int32"
    size = 1

    def move(self, x: Any) -> None:
        self.state.assign_add([1])

    def call(self, x: Any, training: bool = False) -> Any:
        factor = 1.0 / (1.0 + ops.cast(self.state, "float64"))
        return super().call(x, training) * factor


class Twice(keras.layers.Layer):
    """Calls one layer on two inputs, as a critic is called on real and false examples."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def call(self, x: Any, training: bool = False) -> Any:
        return self.inner(x, training=training) + self.inner(2.0 * x, training=training)


class Conditional(RunningMean):
    """Updates its state inside a condition."""

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            mean = ops.mean(x, axis=0)

            def move() -> tf.Tensor:
                self.state.assign(0.9 * self.state + 0.1 * mean)
                return tf.constant(1)

            tf.cond(tf.reduce_sum(self.state) < 100.0, move, lambda: tf.constant(0))
        return x


LAYERS: dict[str, Callable[[], Any]] = {
    "running_mean": RunningMean,
    "centered": Centered,
    "mean_aggregated": MeanAggregated,
    "total": Total,
    "decayed_counts": DecayedCounts,
    "scaled_total": ScaledTotal,
    "largest": Largest,
    "smallest": Smallest,
    "examples": Examples,
    "annealed": Annealed,
    "running_mean_twice": lambda: Twice(RunningMean()),
    "centered_twice": lambda: Twice(Centered()),
    "decayed_counts_twice": lambda: Twice(DecayedCounts()),
    "batch_norm_twice": lambda: Twice(keras.layers.BatchNormalization(synchronized=True)),
    "conditional": Conditional,
}


def build(layer: Any, cls: Any = keras.Sequential, **arguments: Any) -> Any:
    parts = [keras.Input((3,)), keras.layers.Dense(3, activation="tanh"), layer]
    model = cls([*parts, keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.05), "mse", **arguments)
    return model


def copies_of(strategy: tf.distribute.Strategy, model: Any) -> list[list[Any]]:
    return [
        [copy.numpy() for copy in strategy.experimental_local_results(v.value)]
        for v in model.non_trainable_variables
    ]


AT_LENGTH = {"total", "smallest", "running_mean_twice", "centered_twice"}
"""Others show the same: scaled totals, the largest, and counts and statistics that move twice."""


@EAGER
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.thorough if name in AT_LENGTH else ())
        for name in LAYERS
    ],
)
def test_the_state_of_a_layer_matches_one_device(
    strategy: tf.distribute.Strategy, name: str, is_eager: bool
) -> None:
    if is_eager and strategy.num_replicas_in_sync == 3:
        pytest.skip("eager steps are slow; two replicas show them")

    def program(each: tf.distribute.Strategy) -> Found:
        with each.scope():
            model = build(LAYERS[name](), run_eagerly=is_eager)
        history = model.fit(X, Y, batch_size=7, epochs=2, shuffle=False, verbose=0)
        if each is strategy:
            for copies in copies_of(strategy, model):
                assert all(np.array_equal(copy, copies[0]) for copy in copies)
        return found(model, history, loss=model.evaluate(X, Y, batch_size=7, verbose=0))

    assert_like_one_device(program, strategy)


class Teaching(keras.Sequential):
    """Moves the weights of a teacher towards its own after each update, and learns from it."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = tf.reduce_mean(tf.square(predicted - y))
            loss += 0.1 * tf.reduce_mean(tf.square(predicted - self.teacher(x)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        for mine, own in zip(self.teacher.variables, self.trainable_variables, strict=True):
            mine.assign(0.9 * mine + 0.1 * own)
        return {"total": loss}


def test_a_teacher_updated_after_the_step_is_not_sent(strategy: tf.distribute.Strategy) -> None:
    def program(each: tf.distribute.Strategy) -> Found:
        with each.scope():
            model = build(keras.layers.Activation("relu"), Teaching)
            teacher = keras.models.clone_model(keras.Sequential(model.layers))
            teacher.build((None, 3))
            teacher.trainable = False
            model.teacher = teacher
        history = model.fit(X, Y, batch_size=7, epochs=2, shuffle=False, verbose=0)
        return found(
            model, history, teacher=np.concatenate([w.ravel() for w in teacher.get_weights()])
        )

    assert_like_one_device(program, strategy)


def test_integers_that_count_examples_are_refused_unless_they_are_summed(
    strategy: tf.distribute.Strategy,
) -> None:
    class Counting(Examples):
        aggregation = "none"

    with strategy.scope():
        model = build(Counting())
    with pytest.raises(ValueError, match=r'state.*add_weight\(\.\.\., aggregation="sum"\)'):
        model.fit(X, Y, batch_size=7, verbose=0)


def test_a_read_inside_a_condition_after_a_write_is_refused(
    strategy: tf.distribute.Strategy,
) -> None:
    class Reading(RunningMean):
        def call(self, x: Any, training: bool = False) -> Any:
            x = super().call(x, training)
            return tf.cond(tf.shape(x)[1] > 2, lambda: x - self.state, lambda: x)

    with strategy.scope():
        model = build(Reading())
    with pytest.raises(ValueError, match="must not be read inside"):
        model.fit(X, Y, batch_size=7, verbose=0)


class Late(keras.Sequential):
    """Updates a running mean of the batch after its step, like a queue of statistics."""

    def train_step(self, data: Any) -> Any:
        logs = super().train_step(data)
        mean = self.layers[1].state
        mean.assign(0.9 * mean + 0.1 * ops.mean(data[0], axis=0))
        return logs


def test_state_updated_from_the_batch_after_the_step_is_averaged_too(
    strategy: tf.distribute.Strategy,
) -> None:
    def program(each: tf.distribute.Strategy) -> Found:
        with each.scope():
            model = build(RunningMean(), Late)
        history = model.fit(X, Y, batch_size=7, epochs=2, shuffle=False, verbose=0)
        return found(model, history)

    assert_like_one_device(program, strategy)


def test_a_variable_of_tensorflow_that_the_batch_changes_is_refused(
    strategy: tf.distribute.Strategy,
) -> None:
    class Native(keras.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.mean = tf.Variable(tf.zeros([3], tf.float64), trainable=False)
            self.calls = tf.Variable(0, trainable=False)

        def call(self, x: Any, training: bool = False) -> Any:
            self.calls.assign_add(1)  # the same on all replicas
            if training:
                self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(x, axis=0))
            return x

    with strategy.scope():
        model = build(Native())
    with pytest.raises(ValueError, match=r"must be a Keras variable.*add_weight"):
        model.fit(X, Y, batch_size=7, verbose=0)
