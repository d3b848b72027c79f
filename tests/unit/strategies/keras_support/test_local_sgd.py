"""Local SGD against NumPy, and against stock Keras if it averages after every step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.collectives import GraphWatch, collectives_in
from tfscale.callbacks import LocalUpdates, Monitor

pytestmark = pytest.mark.own_process

Array = np.ndarray[Any, Any]

RATE = 0.05
# 26 rows in batches of 6: the last batch has 2, so one of 3 replicas has none.
ROWS: Array = np.random.default_rng(1).normal(size=(26, 3))
TARGETS: Array = np.random.default_rng(2).normal(size=(26, 1))
BATCH = 6


@pytest.fixture(scope="module", autouse=True)
def float64() -> Iterator[None]:
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="module")
def three() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(3)  # first: TensorFlow makes its logical CPUs once


@pytest.fixture(scope="module")
def two(three: tf.distribute.Strategy) -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


def linear(strategy: Any, optimizer: Any = None, **compiling: Any) -> Any:
    """A linear model whose weights start at 0; in stock Keras without a strategy."""
    with strategy.scope() if strategy else tf.device("CPU:0"):
        layer = keras.layers.Dense(1, kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((3,)), layer])
        model.compile(optimizer() if optimizer else keras.optimizers.SGD(RATE), "mse", **compiling)
    return model


def fitted(model: Any, *callbacks: Any, epochs: int = 2, **arguments: Any) -> Array:
    model.fit(
        ROWS,
        TARGETS,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks],
        **arguments,
    )
    return weights(model)


def weights(model: Any) -> Array:
    """Kernel and bias, [4, 1]."""
    kernel, bias = model.get_weights()
    return np.concatenate([kernel, bias[np.newaxis]])


def copies(model: Any) -> list[list[float]]:
    strategy = model.distribute_strategy
    values = strategy.experimental_local_results(model.trainable_variables[0]._value)
    return [value.numpy().ravel().tolist() for value in values]


def simulated(replicas: int, every: int, momentum: float, epochs: int = 2) -> Array:
    """Local SGD: replicas step separately; weights and momentum are averaged after a round."""
    found, speeds = np.zeros((replicas, 4, 1)), np.zeros((replicas, 4, 1))
    inputs = np.concatenate([ROWS, np.ones((len(ROWS), 1))], axis=1)
    for _ in range(epochs):
        seen, starts = np.zeros(replicas), range(0, len(ROWS), BATCH)
        for step, start in enumerate(starts, start=1):
            rows, targets = inputs[start : start + BATCH], TARGETS[start : start + BATCH]
            for r in range(replicas):
                own = slice(r * len(rows) // replicas, (r + 1) * len(rows) // replicas)
                x, y = rows[own], targets[own]
                gradient = 2 * x.T @ (x @ found[r] - y) / max(1, len(x))
                speeds[r] = momentum * speeds[r] - RATE * gradient
                found[r] = found[r] + speeds[r]
                seen[r] += len(x)
            if step % every == 0 or step == len(starts):
                found[:] = np.average(found, axis=0, weights=seen)
                speeds[:] = np.average(speeds, axis=0, weights=seen)
                seen[:] = 0
    return np.asarray(found[0])


# Keras rounds the momentum to float32 first, which does not change 7/8.
@pytest.mark.parametrize(("every", "momentum"), [(2, 0.0), (3, 0.875), (50, 0.875)])
def test_replicas_step_separately_and_are_averaged_after_a_round(
    three: tf.distribute.Strategy, every: int, momentum: float
) -> None:
    model = linear(three, lambda: keras.optimizers.SGD(RATE, momentum=momentum))
    found = fitted(model, LocalUpdates(every))
    np.testing.assert_allclose(found, simulated(3, every, momentum), rtol=1e-12, atol=1e-15)
    assert np.abs(found - simulated(3, 1, momentum)).max() > 1e-4  # the test can tell


def test_a_callback_that_traces_the_step_again_does_not_end_local_training(
    three: tf.distribute.Strategy, tmp_path: Path
) -> None:
    monitor = Monitor(tmp_path)
    model = linear(three)
    found = fitted(model, LocalUpdates(3), monitor)
    np.testing.assert_allclose(found, simulated(3, 3, 0.0), rtol=1e-12, atol=1e-15)
    assert monitor.collective_bytes_per_step is None  # no step exchanges gradients


@pytest.mark.parametrize(("replicas", "momentum"), [("two", 0.0), ("three", 0.875)])
def test_a_round_of_one_step_is_synchronous_training(
    request: pytest.FixtureRequest, replicas: str, momentum: float
) -> None:
    def optimizer() -> Any:
        return keras.optimizers.SGD(RATE, momentum=momentum, weight_decay=0.01)

    found = fitted(linear(request.getfixturevalue(replicas), optimizer), LocalUpdates(1))
    np.testing.assert_allclose(found, fitted(linear(None, optimizer)), rtol=1e-12)


def test_several_steps_of_an_execution_match_several_executions(
    two: tf.distribute.Strategy,
) -> None:
    model = linear(two, steps_per_execution=2)
    np.testing.assert_allclose(
        fitted(model, LocalUpdates(4)), simulated(2, 4, 0.0), rtol=1e-12, atol=1e-15
    )


class Look(keras.callbacks.Callback):
    """Records after each step and each use of a model whether all copies are equal."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[bool] = []
        self.uses: list[bool] = []

    def _are_equal(self) -> bool:
        one, *others = copies(self.model)
        return all(other == one for other in others)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.append(self._are_equal())

    def on_test_begin(self, logs: Any = None) -> None:
        self.uses.append(self._are_equal())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.uses.append(self._are_equal())


def test_a_stream_of_unknown_length_ends_with_a_mean(two: tf.distribute.Strategy) -> None:
    def batches() -> Iterator[Any]:
        for start in range(0, len(ROWS), BATCH):
            yield ROWS[start : start + BATCH], TARGETS[start : start + BATCH]

    model, look = linear(two), Look()
    model.fit(batches(), verbose=0, callbacks=[look, LocalUpdates(4)])
    assert look.uses == [True]
    np.testing.assert_allclose(
        weights(model), simulated(2, 4, 0.0, epochs=1), rtol=1e-12, atol=1e-15
    )


def test_copies_differ_within_a_round_and_are_equal_when_the_model_is_used(
    two: tf.distribute.Strategy,
) -> None:
    look = Look()
    model = linear(two)
    model.fit(
        ROWS[:24],
        TARGETS[:24],
        batch_size=BATCH,
        epochs=2,
        verbose=0,
        validation_data=(ROWS, TARGETS),
        callbacks=[look, LocalUpdates(3)],  # means are there also for who looks first
    )
    assert look.steps == [False, False, True, True] * 2
    assert look.uses == [True] * 4


def test_an_epoch_that_is_stopped_ends_with_a_mean(two: tf.distribute.Strategy) -> None:
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = batch == 1

    look = Look()
    fitted(linear(two), LocalUpdates(4), Stop(), look)
    assert look.steps == [False, False]
    assert look.uses == [True]


def test_after_a_failed_fit_training_is_synchronous(
    two: tf.distribute.Strategy,
) -> None:
    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                raise ArithmeticError("not today")

    model, local = linear(two), LocalUpdates(4)
    with pytest.raises(ArithmeticError, match="not today"):
        fitted(model, local, Fail())
    assert copies(model)[0] != copies(model)[1]
    local.average()
    assert copies(model)[0] == copies(model)[1]
    begun, single = model.get_weights(), linear(None)
    single.set_weights(begun)
    np.testing.assert_allclose(fitted(model), fitted(single), rtol=1e-12)


def test_fits_before_and_after_are_synchronous(two: tf.distribute.Strategy) -> None:
    model, single = linear(two), linear(None)
    np.testing.assert_allclose(fitted(model), fitted(single), rtol=1e-12)
    model.set_weights([np.zeros((3, 1)), np.zeros(1)])
    found = fitted(model, LocalUpdates(4))
    np.testing.assert_allclose(found, simulated(2, 4, 0.0), rtol=1e-12, atol=1e-15)
    single.set_weights(model.get_weights())
    np.testing.assert_allclose(fitted(model), fitted(single), rtol=1e-12)


def test_steps_of_a_round_do_not_communicate_and_statistics_are_reduced_at_its_end(
    two: tf.distribute.Strategy,
) -> None:
    with two.scope():
        watch, norm = GraphWatch(), keras.layers.BatchNormalization(momentum=0.5)
        model = keras.Sequential([keras.Input((3,)), watch, norm, keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.01), "mse")
    arguments = {"batch_size": 4, "shuffle": False, "verbose": 0}
    model.fit(ROWS[:8], TARGETS[:8], callbacks=[LocalUpdates(2)], **arguments)
    assert [name for graph in watch.graphs for name in collectives_in(graph)] == []
    # Each replica halves the way to the mean of its rows twice; then they are averaged.
    own = [[ROWS[0:2], ROWS[4:6]], [ROWS[2:4], ROWS[6:8]]]
    wanted = np.mean([0.25 * a.mean(axis=0) + 0.5 * b.mean(axis=0) for a, b in own], axis=0)
    np.testing.assert_allclose(norm.moving_mean.numpy(), wanted, rtol=1e-12)
    for variable in [*model.variables, *model.optimizer.variables]:
        values = two.experimental_local_results(variable._value)
        if variable.dtype == "float64":
            np.testing.assert_array_equal(values[0], values[1])


def test_on_one_replica_it_changes_nothing(three: tf.distribute.Strategy) -> None:
    wanted = fitted(linear(None))
    for single in (strategies.one_device_strategy(), None):
        np.testing.assert_allclose(fitted(linear(single), LocalUpdates(4)), wanted, rtol=1e-12)


@pytest.mark.parametrize("every", [0, -1, 2.0, True, None])
def test_a_round_of_no_steps_is_refused(every: Any) -> None:
    with pytest.raises(ValueError, match=r"`every` must be a positive integer. Received: every="):
        LocalUpdates(every)


def test_rounds_end_with_executions(two: tf.distribute.Strategy) -> None:
    with pytest.raises(ValueError, match=r"multiple of .* every=3, steps_per_execution=2\. Comp"):
        fitted(linear(two, steps_per_execution=2), LocalUpdates(3))


def test_a_scaled_loss_is_refused(two: tf.distribute.Strategy) -> None:
    def optimizer() -> Any:
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE))

    with pytest.raises(ValueError, match=r"`optimizer` must not scale the loss.*mixed_bfloat16"):
        fitted(linear(two, optimizer), LocalUpdates(2))


def test_synchronized_statistics_are_refused(two: tf.distribute.Strategy) -> None:
    with two.scope():
        norm = keras.layers.BatchNormalization(synchronized=True)
        model = keras.Sequential([keras.Input((3,)), norm, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"synchronized=True.*Use synchronized=False"):
        fitted(model, LocalUpdates(2))


def test_a_layer_that_adds_up_examples_is_refused(two: tf.distribute.Strategy) -> None:
    class Counting(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.seen = self.add_weight(
                shape=(), initializer="zeros", trainable=False, aggregation="sum", name="seen"
            )

        def call(self, x: Any) -> Any:
            self.seen.assign(self.seen + keras.ops.cast(keras.ops.shape(x)[0], self.seen.dtype))
            return x

    with two.scope():
        model = keras.Sequential([keras.Input((3,)), Counting(), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"must not add up examples.*seen.*aggregation='sum'"):
        fitted(model, LocalUpdates(2))


def test_a_strategy_that_is_not_ours_is_refused(two: tf.distribute.Strategy) -> None:
    theirs = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with pytest.raises(ValueError, match=r"to use LocalUpdates.*with strategy.scope"):
        fitted(linear(theirs), LocalUpdates(2))
