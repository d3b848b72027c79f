"""Errors instead of training: custom steps with conditions or a `tf.function`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from tests.defects.row import Findings, Run, X, Y, row, trained


class EveryOtherStep(keras.Sequential):
    """Applies gradients every other step, as a GAN's generator does."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.steps.assign_add(1)

        def apply() -> tf.Tensor:
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return tf.constant(0)

        tf.cond(tf.equal(self.steps.value % 2, 0), apply, lambda: tf.constant(0))
        return {"own_loss": loss}


@row("C22", "`tf.cond` around `apply_gradients`")
def conditional_update(run: Run) -> Findings:
    with run.strategy.scope():
        model = EveryOtherStep([keras.Input((3,)), layers.Dense(2)])
        model.steps = keras.Variable(0, dtype="int32", trainable=False)
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, batch_size=8, epochs=4, shuffle=False, verbose=0)
    return trained(model)


class FunctionsInStep(keras.Sequential):
    """Makes two updates per step, each in a `tf.function`."""

    @tf.function
    def one_update(self, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return loss

    def train_step(self, data: Any) -> dict[str, Any]:
        self.one_update(*data)
        return {"own_loss": self.one_update(*data)}


@row("C23", "`train_step` calls a `tf.function` that applies gradients")
def functions_in_step(run: Run) -> Findings:
    with run.strategy.scope():
        model = FunctionsInStep([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)
