"""What users do with a model, done with a pipeline, against stock Keras on one device."""

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
    Program,
    assert_like_one_device,
    found,
)
from tfscale.parallel import Pipeline

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.thorough,
    pytest.mark.usefixtures("in_double_precision"),
]

layers = keras.layers
DRAW = np.random.default_rng(7)
X, Y = DRAW.normal(size=(40, 4)), DRAW.normal(size=(40, 1))
CLASSES, WEIGHTS = DRAW.integers(0, 3, 40), DRAW.uniform(0.2, 2, 40)
FIT = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0}
"""Steps of 16, 16 and 8 examples: on two replicas 8, 8 and 4, in microbatches of 2 and 1."""


class Penalized(keras.Model):
    """Adds to the loss what Keras does not know of."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + 0.1 * tf.reduce_mean(tf.square(y_pred))


class Logged(keras.Model):
    """Reports a value that no metric counts."""

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "size": tf.reduce_mean(tf.abs(y_pred))}


def dense(outputs: int = 1, kind: Any = keras.Model) -> Any:
    inputs = keras.Input([4])
    hidden = layers.Dense(5, "tanh", name="a")(inputs)
    hidden = layers.Dense(5, "tanh", name="b", kernel_regularizer="l2")(hidden)
    return kind(inputs, layers.Dense(outputs, name="c")(hidden))


def of_two_outputs() -> Any:
    late = dense()
    early = layers.Dense(3, name="d")(late.get_layer("a").output)
    return keras.Model(late.input, {"late": late.output, "early": early})


def recurrent() -> Any:
    parts = [layers.LSTM(3, return_sequences=True, name="a"), layers.LSTM(3, name="b")]
    return keras.Sequential(
        [keras.Input([4]), layers.Reshape([4, 1]), *parts, layers.Dense(1, name="c")]
    )


def recomputed() -> Any:
    if not tf.distribute.has_strategy():
        return dense()  # Keras itself fails
    with keras.RematScope("full"):
        return dense()


def adam() -> Any:
    return keras.optimizers.Adam(0.02, global_clipnorm=0.1)


def accumulating() -> Any:
    return keras.optimizers.Adam(0.02, clipnorm=0.1, gradient_accumulation_steps=2, use_ema=True)


def scaling() -> Any:
    return keras.optimizers.LossScaleOptimizer(adam(), dynamic_growth_steps=2)


def classified() -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def shown(model: Any, fitted: Any = None, **more: Any) -> Found:
    slots = [np.sum(v.numpy()) for v in model.optimizer.variables]
    return found(model, fitted, slots=slots, **more)


def fitting(
    build: Callable[[], Any],
    y: Any = Y,
    loss: Callable[[], Any] = lambda: "mse",
    optimizer: Callable[[], Any] = adam,
    fit: dict[str, Any] | None = None,
    **compiling: Any,
) -> Program:
    """Returns a program that compiles and fits a model."""

    def trained(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = build()
            model.compile(optimizer(), loss(), **compiling)
        as_pipeline(model, strategy)
        fitted = model.fit(X, y, **FIT, **(fit or {}))
        weighted = {k: v for k, v in (fit or {}).items() if k == "sample_weight"}
        return shown(model, fitted, evaluated=model.evaluate(X, y, verbose=0, **weighted))

    return trained


def as_pipeline(model: Any, strategy: tf.distribute.Strategy) -> None:
    if strategy is not tf.distribute.get_strategy():
        Pipeline(model, ["b"], 4, schedule="1f1b")


def batch_by_batch(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = dense()
        model.compile(adam(), "mse", metrics=["mae"])
    as_pipeline(model, strategy)
    logs = []
    for begin in (0, 16):
        rows = slice(begin, begin + 16)
        logs += model.train_on_batch(X[rows], Y[rows], sample_weight=WEIGHTS[rows])
    logs += model.test_on_batch(X, Y)
    return shown(model, logs=logs, predicted=model.predict_on_batch(X[:8]))


def endless_data(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = dense()
        model.compile(adam(), "mse")
    as_pipeline(model, strategy)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(10).repeat()
    return shown(
        model,
        model.fit(
            data,
            epochs=2,
            steps_per_epoch=3,
            validation_data=data,
            validation_steps=2,
            verbose=0,
        ),
    )


def frozen_and_unfrozen(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = dense()
        model.get_layer("a").trainable = False
        model.compile(adam(), "mse")
    as_pipeline(model, strategy)
    model.fit(X, Y, **FIT)
    model.get_layer("a").trainable = True
    with strategy.scope():
        model.compile(adam(), "mse")
    return shown(model, model.fit(X, Y, **FIT))


def keras_callbacks(strategy: tf.distribute.Strategy) -> Found:
    with strategy.scope():
        model = dense()
        model.compile(adam(), "mse")
    as_pipeline(model, strategy)
    callbacks = [
        keras.callbacks.EarlyStopping("loss", baseline=1e-3, restore_best_weights=True),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1)),
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
    ]
    model.optimizer.use_ema, model.optimizer.ema_momentum = True, 0.9
    return shown(model, model.fit(X, Y, **FIT, validation_split=0.2, callbacks=callbacks))


PROGRAMS: dict[str, Program] = {
    "class_weight": fitting(
        lambda: dense(3),
        CLASSES,
        classified,
        fit={"class_weight": {0: 1.0, 1: 0.3, 2: 2.0}},
        metrics=["accuracy"],
        weighted_metrics=["accuracy"],
    ),
    "sample_weight": fitting(
        lambda: dense(3),
        CLASSES,
        classified,
        fit={"sample_weight": WEIGHTS},
        weighted_metrics=["accuracy"],
    ),
    "several outputs": fitting(
        of_two_outputs,
        {"late": Y, "early": CLASSES},
        lambda: {"late": "mse", "early": classified()},
        fit={"sample_weight": {"late": WEIGHTS, "early": WEIGHTS**2}},
        loss_weights={"late": 1.0, "early": 0.3},
        metrics={"early": ["accuracy"]},
    ),
    "own compute_loss": fitting(lambda: dense(kind=Penalized)),
    "own compute_metrics": fitting(lambda: dense(kind=Logged)),
    "several steps an execution": fitting(dense, steps_per_execution=3),
    "eagerly": fitting(dense, run_eagerly=True),
    "accumulation and averages": fitting(dense, optimizer=accumulating),
    "loss scaling": fitting(dense, optimizer=scaling),
    "whole variables": fitting(dense, optimizer=lambda: keras.optimizers.Lamb(0.02)),
    "plain SGD": fitting(dense, optimizer=lambda: keras.optimizers.SGD(0.1)),
    "loops": fitting(recurrent),
    "recomputed layers": fitting(recomputed),
    "batch by batch": batch_by_batch,
    "endless data": endless_data,
    "frozen and unfrozen": frozen_and_unfrozen,
    "callbacks": keras_callbacks,
}


@pytest.fixture(autouse=True, scope="module")
def _four_devices() -> None:
    strategies.mirrored_strategy(2, devices_per_replica=2)  # TensorFlow makes its CPUs once


@pytest.mark.parametrize("shard", [0, 3])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_pipeline_does_what_one_device_does(program: str, shard: int) -> None:
    strategy = strategies.mirrored_strategy(2, devices_per_replica=2, shard=shard)
    assert_like_one_device(PROGRAMS[program], strategy)
