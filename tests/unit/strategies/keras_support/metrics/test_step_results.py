"""A step reports the results of its metrics under other names."""

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


class Both(keras.metrics.Metric):
    """The sum and the mean of its inputs."""

    def __init__(self, name: str = "both") -> None:
        super().__init__(name=name)
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        self.total.assign_add(keras.ops.sum(values))
        self.count.assign_add(keras.ops.cast(keras.ops.shape(values)[0], self.dtype))

    def result(self) -> Any:
        return {"sum": self.total + 0.0, "mean": self.total / self.count}


class Reporting(keras.Model):
    """As in Keras's examples of a VAE and a GAN, trackers and logs have different names."""

    def __init__(self, unlisted: list[Any]) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2)
        self.tracker = keras.metrics.Mean(name="total_loss")
        self.both = Both()
        self.unlisted = unlisted  # a list in a list is not searched

    def build(self, input_shape: Any) -> None:
        self.dense.build((None, 3))

    @property
    def metrics(self) -> list[Any]:
        return [self.tracker, self.both]

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def step(self, data: Any, is_training: bool) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            errors = tf.reduce_sum(tf.square(y - self(x)), axis=1)
            loss = tf.reduce_mean(errors)
        if is_training:
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
        self.tracker.update_state(loss)
        self.both.update_state(errors)
        (tracker,) = self.unlisted[0]
        tracker.update_state(errors)
        return {
            "loss": self.tracker.result(),
            "under": {"another": self.both.result()},
            "by_row": tracker.result(),
        }

    def train_step(self, data: Any) -> dict[str, Any]:
        return self.step(data, is_training=True)

    def test_step(self, data: Any) -> dict[str, Any]:
        return self.step(data, is_training=False)


@pytest.mark.parametrize(
    ("is_eager", "execution"),
    [
        pytest.param(False, 3, id="graph-3"),
        pytest.param(True, 1, id="eager-1"),
        pytest.param(False, 1, id="graph-1", marks=pytest.mark.thorough),
        pytest.param(True, 3, id="eager-3", marks=pytest.mark.thorough),
    ],
)
def test_logs_are_the_results_of_the_whole_epoch_under_any_name(
    strategy: tf.distribute.Strategy, is_eager: bool, execution: int
) -> None:
    def program(each: tf.distribute.Strategy) -> Found:
        with each.scope():
            tracker = keras.metrics.Mean(name="elsewhere")
            model = Reporting([(tracker,)])
            is_ours = each is strategy
            model.compile(
                keras.optimizers.SGD(0.05),
                run_eagerly=is_eager,
                steps_per_execution=execution if is_ours else 1,
            )
        logs: list[Any] = []
        note = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, log: logs.append(dict(log)))
        model.fit(X, Y, batch_size=7, epochs=2, shuffle=False, verbose=0, callbacks=[note])
        flat = [float(v) for log in logs for v in tf.nest.flatten(log)]
        evaluated = model.evaluate(X, Y, batch_size=7, verbose=0, return_dict=True)
        return found(model, logs=flat, evaluated=np.array(tf.nest.flatten(evaluated)))

    assert_like_one_device(program, strategy)


def test_metrics_keep_no_attribute_of_it(strategy: tf.distribute.Strategy) -> None:
    with strategy.scope():
        tracker = keras.metrics.Mean(name="elsewhere")
        model = Reporting([(tracker,)])
        model.compile(keras.optimizers.SGD(0.05))
    model.fit(X, Y, batch_size=7, verbose=0)
    assert "result" not in {*vars(tracker), *vars(model.tracker), *vars(model.both)}
