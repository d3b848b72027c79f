"""Training in microbatches against stock Keras on one device, which computes whole batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from tests.programs import run_program
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    assert_like_one_device,
    found,
)
from tests.unit.strategies.keras_support.step.microbatch_cases import CASES, FEATURES, NUMBERS
from tfscale.callbacks import LocalUpdates, Microbatches

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

layers = keras.layers


@pytest.fixture(scope="module")
def three() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(3)  # first: TensorFlow makes its logical CPUs once


@pytest.fixture(scope="module")
def two(three: tf.distribute.Strategy) -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


@pytest.fixture(scope="module")
def one(three: tf.distribute.Strategy) -> tf.distribute.Strategy:
    return strategies.one_device_strategy()


def program(case: str, count: int, size: int, **changed: Any) -> Callable[[Any], Found]:
    """Returns a program whose training under one of our strategies is in microbatches."""
    build, feed = CASES[case]

    def trained(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = build()
            for name, value in changed.items():
                setattr(model, name, value)
        is_ours = tf.distribute.get_strategy() is not strategy
        callbacks = [Microbatches(count)] if is_ours else []
        return found(model, model.fit(**feed(size), epochs=2, verbose=0, callbacks=callbacks))

    return trained


def test_microbatches_train_like_whole_batches_on_one_device(two: tf.distribute.Strategy) -> None:
    # 14 rows in batches of 3: a replica has 2 rows and the other one 1, fewer than parts.
    assert_like_one_device(program("a small masked mean", 2, 3), two)


@pytest.mark.thorough
@pytest.mark.parametrize("replicas", ["one", "two", "three"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("count", "size"), [(2, 14), (3, 7), (4, 3)])
def test_every_case_on_every_strategy(
    request: pytest.FixtureRequest, case: str, replicas: str, count: int, size: int
) -> None:
    assert_like_one_device(program(case, count, size), request.getfixturevalue(replicas))


@pytest.mark.thorough
@pytest.mark.parametrize("replicas", ["one", "two"])
def test_eager_steps_are_computed_in_microbatches(
    request: pytest.FixtureRequest, replicas: str
) -> None:
    trained = program("a masked mean", 2, 7, run_eagerly=True)
    assert_like_one_device(trained, request.getfixturevalue(replicas))


@pytest.mark.thorough
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_sharded_state_is_trained_in_microbatches(
    three: tf.distribute.Strategy, stage: int
) -> None:
    trained = program("two outputs", 2, 7)
    assert_like_one_device(trained, strategies.mirrored_strategy(2, shard=stage))


@pytest.mark.thorough
def test_compiled_steps_are_computed_in_microbatches(one: tf.distribute.Strategy) -> None:
    assert_like_one_device(program("a mean by weights", 2, 7, jit_compile=True), one)


def linear(strategy: Any, *inner: Any, model: Any = keras.Sequential, **compiling: Any) -> Any:
    with strategy.scope():
        made = model([keras.Input([3]), *inner, layers.Dense(1, kernel_initializer="ones")])
        made.compile(**{"optimizer": keras.optimizers.SGD(0.1), "loss": "mse", **compiling})
    return made


def fit(model: Any, *callbacks: Any, rows: int = 8, size: int = 8, **more: Any) -> Any:
    return model.fit(
        FEATURES[:rows],
        NUMBERS[:rows],
        batch_size=size,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks],
        **more,
    )


SEEN: list[str] = []


@keras.saving.register_keras_serializable()
class Seen(keras.layers.Layer):
    """Notes the rows of each forward and backward pass, when they run."""

    def call(self, x: Any) -> Any:
        def note(kind: str, rows: Any) -> Any:
            tf.numpy_function(lambda n: SEEN.append(f"{kind}{n}"), [tf.shape(rows)[0]], [])
            return tf.identity(rows)

        @tf.custom_gradient
        def noted(rows: Any) -> Any:
            return note("forward ", rows), lambda upstream: note("backward ", upstream)

        return noted(x)


def test_a_part_is_computed_when_the_one_before_is_done(one: tf.distribute.Strategy) -> None:
    SEEN.clear()
    fit(linear(one, layers.Dense(3), Seen()), Microbatches(3), epochs=2)
    of_step = [f"{kind} {rows}" for rows in (3, 3, 2) for kind in ("forward", "backward")]
    assert of_step * 2 == SEEN


def test_a_fit_without_the_callback_computes_whole_batches(one: tf.distribute.Strategy) -> None:
    model = linear(one, layers.Dense(3), Seen())
    for callbacks, forward in (([Microbatches(2)], 2), ([], 1), ([Microbatches(3)], 3)):
        SEEN.clear()
        fit(model, *callbacks)
        assert sum(each.startswith("forward") for each in SEEN) == forward
    traced = model.train_function
    fit(model, Microbatches(3))
    assert model.train_function is traced  # not traced again


def test_a_fit_that_fails_leaves_nothing_behind(one: tf.distribute.Strategy) -> None:
    class Fails(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            raise KeyError("on purpose")

    model = linear(one, layers.Dense(3), Seen())
    with pytest.raises(KeyError, match="on purpose"):
        fit(model, Microbatches(2), Fails())
    SEEN.clear()
    fit(model)
    assert len(SEEN) == 2


def test_a_prepared_model_computes_microbatches_in_every_fit(one: tf.distribute.Strategy) -> None:
    model = linear(one, layers.Dense(3), Seen())
    prepared = tfscale.prepare(model, one, precision="float64", microbatches=2)
    for callbacks, forward in (([], 2), ([Microbatches(3)], 3), ([], 2)):
        SEEN.clear()
        fit(prepared, *callbacks)
        assert sum(each.startswith("forward") for each in SEEN) == forward
    SEEN.clear()
    prepared.train_on_batch(FEATURES[:8], NUMBERS[:8])
    assert sum(each.startswith("forward") for each in SEEN) == 2


def moved(parts: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Moving mean and variance after these microbatches, one after the other."""
    mean, variance = np.zeros(3), np.ones(3)
    for part in parts:
        mean, variance = (mean + part.mean(0)) / 2, (variance + part.var(0)) / 2
    return [mean, variance]


@pytest.mark.parametrize("replicas", [pytest.param("one", marks=pytest.mark.thorough), "two"])
def test_moving_statistics_move_once_a_microbatch(
    request: pytest.FixtureRequest, replicas: str
) -> None:
    strategy = request.getfixturevalue(replicas)
    with strategy.scope():
        own = layers.BatchNormalization(momentum=0.5)
        joint = layers.BatchNormalization(momentum=0.5, synchronized=True)
        inputs = keras.Input([3])
        model = keras.Model(inputs, layers.Dense(1)(own(inputs) + joint(inputs)))
        model.compile("sgd", "mse")
    fit(model, Microbatches(2))
    of_replicas = np.split(FEATURES[:8], strategy.num_replicas_in_sync)
    halves = [np.split(rows, 2) for rows in of_replicas]
    for norm, wanted in (
        (own, np.mean([moved(parts) for parts in halves], axis=0)),
        (joint, moved([np.concatenate(parts) for parts in zip(*halves, strict=True)])),
    ):
        for variable, value in zip((norm.moving_mean, norm.moving_variance), wanted, strict=True):
            for copy in strategy.experimental_local_results(variable._value):
                np.testing.assert_allclose(copy.numpy(), value, rtol=1e-12)


def test_a_microbatch_without_examples_moves_no_statistics(two: tf.distribute.Strategy) -> None:
    model = linear(two, layers.BatchNormalization(momentum=0.5), metrics=["mae"])
    history = fit(model, Microbatches(2), rows=1, size=1).history
    norm = model.layers[0]  # one row on one replica
    np.testing.assert_allclose(norm.moving_mean.numpy(), FEATURES[0] / 2, rtol=1e-12)
    np.testing.assert_allclose(norm.moving_variance.numpy(), np.full(3, 0.5), rtol=1e-12)
    np.testing.assert_allclose(history["mae"], abs(NUMBERS[0]), rtol=1e-12)


class Draws(keras.layers.Layer):
    """Notes what dropout leaves of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = layers.Dropout(0.5, seed=3)

    def call(self, x: Any, training: bool = False) -> Any:
        kept = self.dropout(tf.ones([1, 16], x.dtype), training=training)
        tf.numpy_function(lambda k: SEEN.append(str(k)), [kept], [])
        return x * tf.reduce_mean(kept)


def test_dropout_differs_between_microbatches_and_is_reproducible(
    one: tf.distribute.Strategy,
) -> None:
    drawn = []
    for _ in range(2):
        SEEN.clear()
        fit(linear(one, Draws()), Microbatches(3))
        drawn.append([*SEEN])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 3


def test_an_overflow_in_one_microbatch_skips_the_whole_step(two: tf.distribute.Strategy) -> None:
    with two.scope():
        inner = keras.optimizers.SGD(0.1)
        optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    model = linear(two, optimizer=optimizer)
    targets = NUMBERS[:8].copy()
    targets[5] = np.inf
    arguments: dict[str, Any] = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(FEATURES[:8], targets, callbacks=[Microbatches(2)], **arguments)
    assert float(model.optimizer.dynamic_scale.numpy()) == 4.0
    np.testing.assert_array_equal(model.get_weights()[0], np.ones((3, 1)))
    model.fit(FEATURES[:8], NUMBERS[:8], callbacks=[Microbatches(2)], **arguments)
    kernel, bias = after_a_step(FEATURES[:8], NUMBERS[:8])
    np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-12)
    np.testing.assert_allclose(model.get_weights()[1], bias, rtol=1e-12)


def after_a_step(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """The weights of `linear` after one step: a mean of squares, from ones and 0, at 0.1."""
    errors = x.sum(1, keepdims=True) - y
    return 1 - 0.1 * 2 * (x.T @ errors) / len(x), -0.1 * 2 * errors.mean(0)


class OwnStep(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


class OwnLoss(keras.Sequential):
    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        return tfscale.ratio_over_replicas(tf.reduce_sum((y - y_pred) ** 2), tf.shape(y)[0])


def test_what_cannot_be_right_is_refused(
    one: tf.distribute.Strategy, two: tf.distribute.Strategy
) -> None:
    with pytest.raises(ValueError, match=r"`count` must be .* Received: count=0"):
        Microbatches(0)
    with pytest.raises(ValueError, match=r"`microbatches` must be"):
        tfscale.prepare(linear(one), one, microbatches=0)
    with pytest.raises(ValueError, match=r"`microbatches` must be 1 .* its own `train_step`"):
        fit(linear(one, model=OwnStep), Microbatches(2))
    with pytest.raises(ValueError, match=r"`microbatches` must be 1 .*ratio_over_replicas"):
        fit(linear(one, model=OwnLoss), Microbatches(2))
    for callbacks in ([Microbatches(2), LocalUpdates(2)], [LocalUpdates(2), Microbatches(2)]):
        with pytest.raises(ValueError, match="not combine LocalUpdates with microbatches"):
            fit(linear(two), *callbacks)
    outside = keras.Sequential([keras.Input([3]), layers.Dense(1)])
    outside.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"to use Microbatches.*strategy.scope"):
        fit(outside, Microbatches(2))


def test_a_step_that_is_watched_knows_the_loss_of_the_whole_batch(
    two: tf.distribute.Strategy,
) -> None:
    model = linear(two)
    stability = tfscale.callbacks.Stability(on_trouble="skip", factor=2, warmup_steps=1)
    targets = np.concatenate([NUMBERS[:4], NUMBERS[4:8] + 100])
    callbacks = [stability, Microbatches(2)]
    model.fit(FEATURES[:8], targets, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)
    kernel, bias = after_a_step(FEATURES[:4], NUMBERS[:4])  # the second one is skipped
    np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-12)
    wanted = np.mean((FEATURES[4:8] @ kernel + bias - targets[4:]) ** 2)
    np.testing.assert_allclose(stability.events[0].loss, wanted, rtol=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("replicas", ["1", "2", "1 xla"])
def test_activations_need_a_part_of_the_memory(replicas: str) -> None:
    module = "tests.unit.strategies.keras_support.step.microbatch_memory"

    def peak(count: int) -> int:
        printed = run_program("-m", module, str(count), *replicas.split(), timeout=300)
        return int(printed.splitlines()[0])

    whole, quarters = peak(1), peak(4)  # seen: 294 and 81 MiB on one replica, 290 and 82 on two
    assert whole > 250
    assert quarters < (0.6 if "xla" in replicas else 0.4) * whole  # 317 and 148 with XLA
