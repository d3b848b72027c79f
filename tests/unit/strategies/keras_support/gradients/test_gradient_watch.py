"""A step is judged from values that all replicas know, and skipped before it changes anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from strategies.keras_support.gradients.gradient_watch import (
    VERDICTS,
    GradientWatch,
    StepJudge,
    global_norm,
    watch_of,
)
from tests.unit.strategies.keras_support.collectives import GraphWatch

pytestmark = pytest.mark.own_process


@pytest.fixture(scope="module", autouse=True)  # before TensorFlow starts with one logical CPU
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


def judged(
    values: Sequence[float], factor: float | None = 3.0, window: int = 4, warmup_steps: int = 3
) -> list[str]:
    """The verdicts on losses, with a norm that never changes; the judge learns from good ones."""
    judge = StepJudge(factor=factor, window=window, warmup_steps=warmup_steps)
    said = []
    for value in values:
        norm, loss = tf.constant(1.0, tf.float64), tf.constant(value, tf.float64)
        kind, _ = judge.judge(norm, loss, is_scaled=False)
        said.append(VERDICTS[int(kind)])
        if kind == 0:
            judge.learn(norm, loss)
    return said


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ([1, 9, 2, 6.5], [3]),  # 3 * 2 is the limit of the first step that is not warm-up
        ([1, 9, 2, 6], []),
        # Of the last four: 3 * 2, 3 * (2 + 3) / 2, 3 * (3 + 5) / 2, 3 * (5 + 7) / 2.
        ([1, 2, 3, 5, 7, 12, 18.5], [6]),
        ([1, 1, 1, 9, 9, 1], [3, 4]),  # the judge does not learn from a spike
        ([-2, -2, -2, 2, 2.5], [4]),  # -2 + (3 - 1) * 2 = 2
        ([math.nan, 1, math.inf, -math.inf], [0, 2, 3]),  # at once
    ],
)
def test_a_spike_is_above_factor_times_the_median_of_good_losses(
    values: list[float], bad: list[int]
) -> None:
    said = judged(values)
    assert [i for i, kind in enumerate(said) if kind != "good"] == bad


def test_without_a_factor_only_values_that_are_not_finite_are_bad() -> None:
    said = judged([1, 1, 1, 1e300, math.nan], factor=None)
    assert said == ["good"] * 4 + ["loss_not_finite"]


def test_the_norm_is_that_of_all_gradients_unscaled_and_does_not_overflow() -> None:
    rows = tf.IndexedSlices(tf.constant([[2.0]]), tf.constant([1]), tf.constant([3, 1]))
    gradients = [tf.constant([[1.0, 4.0]]), None, rows, tf.constant(2.0, tf.bfloat16)]
    assert float(global_norm(gradients, None)) == 5.0
    assert float(global_norm([tf.constant([3e30, 4e30])], tf.constant(1e20))) == pytest.approx(5e10)


def compiled(strategy: Any, optimizer: Any, layers: Sequence[Any], **arguments: Any) -> Any:
    with strategy.scope():
        model = keras.Sequential(layers)
        model.compile(optimizer(), "mse", **arguments)
        model.optimizer.build(model.trainable_variables)
    return model


def watch_on(model: Any, **arguments: Any) -> GradientWatch:
    limits = {"factor": 10.0, "window": 8, "warmup_steps": 1, "skips_after_trouble": False}
    watch = GradientWatch(model, **{**limits, **arguments})
    watch.attach()
    return watch


def line(strategy: Any, optimizer: Any, **arguments: Any) -> Any:
    """One weight w, 0 at first: the loss is mean (w x - y)^2."""
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    return compiled(strategy, optimizer, [keras.Input((1,)), dense], **arguments)


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(lambda: keras.optimizers.Adam(0.1, global_clipnorm=1.0), id="clipping"),
        pytest.param(
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), id="nested"
        ),
    ],
)
def test_a_watch_adds_no_collective_to_the_step(
    strategy: tf.distribute.Strategy, optimizer: Callable[[], Any]
) -> None:
    counts = []
    for is_watched in (False, True):
        layer = GraphWatch()
        layers = [keras.Input((4,)), layer, keras.layers.BatchNormalization()]
        model = compiled(strategy, optimizer, [*layers, keras.layers.Dense(1)])
        watch = watch_on(model) if is_watched else None
        model.fit(np.ones([4, 4]), np.ones([4, 1]), batch_size=2, verbose=0)
        assert (watch_of(model.optimizer) is not None) is is_watched
        counts.append(layer.step_collectives)
        if watch:
            watch.detach()
    assert counts[0] == counts[1] == ["CollectiveReduceV2"] * 2


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_it_judges_the_global_batch_of_replica_batches_of_different_sizes(
    strategy: tf.distribute.Strategy, run_eagerly: bool
) -> None:
    model = line(strategy, lambda: keras.optimizers.SGD(0.0, clipnorm=0.1), run_eagerly=run_eagerly)
    watch = watch_on(model)
    # Batches of 3, so replicas have 2 and 1; at w = 0 the loss is mean y^2 and the gradient of w
    # is -2 mean (x y).
    y = np.array([1.0, 1, 1, 2, 2, 20])[:, None]
    model.fit(np.ones([6, 1]), y, batch_size=3, shuffle=False, verbose=0)
    (trouble,) = watch.new_troubles()
    watch.detach()
    assert (trouble.step, trouble.kind) == (1, "loss_spike")
    numbers = [trouble.loss, trouble.norm, trouble.limit]
    np.testing.assert_allclose(numbers, [408 / 3, 2 * 24 / 3, 10.0], rtol=1e-6)


def scaling() -> Any:
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=2.0**15)


def test_an_overflow_of_the_scaled_gradient_is_left_to_the_loss_scale(
    strategy: tf.distribute.Strategy,
) -> None:
    model = line(strategy, scaling)
    watch = watch_on(model, factor=None)
    # A gradient of 2e35, times 2**15, overflows float32; the loss, 1, does not.
    x, y = np.array([[1e35], [1e35], [1.0], [1.0]]), np.ones([4, 1])
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    assert watch.new_troubles() == []
    assert float(model.optimizer.dynamic_scale.numpy()) == 2.0**14
    assert model.layers[0].kernel.numpy().item() == pytest.approx(1.0)
    # A loss that is not finite concerns only the watch: the scale does not change.
    model.fit(x[:2] * math.nan, y[:2], batch_size=2, verbose=0)
    watch.detach()
    assert [trouble.kind for trouble in watch.new_troubles()] == ["loss_not_finite"]
    assert float(model.optimizer.dynamic_scale.numpy()) == 2.0**14


def test_all_events_of_an_execution_are_reported_and_a_hold_ends_with_its_release(
    strategy: tf.distribute.Strategy,
) -> None:
    model = line(strategy, lambda: keras.optimizers.SGD(0.5), steps_per_execution=4)
    watch = watch_on(model)
    x, y = np.ones([8, 1]), np.ones([8, 1])
    x[2:6] = math.nan
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    assert [trouble.step for trouble in watch.new_troubles()] == [1, 2]
    assert watch.new_troubles() == []
    watch.detach()
    assert watch_of(model.optimizer) is None

    holding = watch_on(model, skips_after_trouble=True, first_step=4)
    iterations = int(model.optimizer.iterations.numpy())
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    assert [trouble.step for trouble in holding.new_troubles()] == [5]
    assert int(model.optimizer.iterations.numpy()) == iterations + 1
    holding.release()
    model.fit(x[:2], y[:2], batch_size=2, verbose=0)
    holding.detach()
    assert int(model.optimizer.iterations.numpy()) == iterations + 2


class OwnStep(keras.Model):
    """Computes its loss without Keras's methods."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def train_step(self, data: Any) -> Any:
        gradients = self.gradients(*data)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {}

    @tf.function(autograph=False)
    def gradients(self, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(tf.cast(y, tf.float32) - self(x, training=True)))
        return tape.gradient(loss, self.trainable_variables)


def test_a_step_that_reports_no_loss_is_watched_by_its_gradient(
    strategy: tf.distribute.Strategy,
) -> None:
    with strategy.scope():
        model = OwnStep()
        model.compile(keras.optimizers.SGD(0.5), "mse")
        model(np.ones([1, 1]))
        model.optimizer.build(model.trainable_variables)
    watch = watch_on(model)
    x, y = np.array([[1.0], [1.0], [math.nan], [1.0]]), np.ones([4, 1])
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    watch.detach()
    (trouble,) = watch.new_troubles()
    assert (trouble.step, trouble.kind) == (1, "norm_not_finite")
    assert math.isnan(trouble.loss)
    assert np.isfinite(model.dense.kernel.numpy()).all()
