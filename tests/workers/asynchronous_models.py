"""Models of asynchronous jobs, and a metric written as users write them."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class OwnStep(keras.Model):
    """A subclassed model with a custom step, whose loss no metric sees."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(4, activation="tanh")
        self.out = keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.out(self.hidden(inputs))

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.abs(y - self(x, training=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss, "twice": 2 * loss}


class Seen(keras.metrics.Metric):
    """Counts batches and examples, as users write metrics."""

    def __init__(self) -> None:
        super().__init__(name="seen")
        self.batches = self.add_variable((), "zeros", name="batches")
        self.examples = self.add_variable((), "zeros", name="examples")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.batches.assign(self.batches + 1)
        self.examples.assign_add(tf.cast(tf.shape(y_true)[0], self.dtype))

    def result(self) -> Any:
        return self.examples / self.batches


def sequential() -> keras.Model:
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(4, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential(layers)
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 30)
    metrics = ["mae", keras.metrics.R2Score(), Seen()]
    model.compile(keras.optimizers.Adam(schedule, clipnorm=0.5), "mse", metrics=metrics)
    return model


def functional() -> keras.Model:
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh", kernel_regularizer="l2")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    averaged = {"use_ema": True, "ema_overwrite_frequency": 5}
    inner = keras.optimizers.AdamW(0.01, global_clipnorm=0.5, **averaged)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, dynamic_growth_steps=7)
    model.compile(optimizer, "mse", weighted_metrics=["mae"], steps_per_execution=4)
    return model


def own_step() -> keras.Model:
    model = OwnStep()
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True))
    return model
