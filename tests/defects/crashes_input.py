"""Errors instead of training: data and models that stock Keras accepts on one device only."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from tests.defects.row import Findings, Run, X, Y, row, trained


@row("C16", "a lookup without an out-of-vocabulary bucket, a batch of one example")
def closed_vocabulary(run: Run) -> Findings:
    words = ["a", "b", "c"]
    with run.strategy.scope():
        look_up = layers.StringLookup(vocabulary=words, num_oov_indices=0)
        inputs = keras.Input((1,), dtype="string")
        model = keras.Sequential([inputs, look_up, layers.Embedding(3, 2), layers.Flatten()])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    dataset = tf.data.Dataset.from_tensor_slices(([[word] for word in words], Y[:3])).batch(1)
    model.fit(dataset, epochs=3, verbose=0)
    return trained(model)


class Autoencoder(keras.Model):
    """Has parts and a step, but no `call()`."""

    def __init__(self) -> None:
        super().__init__()
        self.net = keras.Sequential([keras.Input((3,)), layers.Dense(3)])

    def train_step(self, data: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(data - self.net(data)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"own_loss": loss}


@row("C17", "a model with `train_step` and no `call()`")
def no_call(run: Run) -> Findings:
    with run.strategy.scope():
        model = Autoencoder()
        model.compile(keras.optimizers.SGD(0.1))
    model.fit(X, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)


@row("C18", "`keras.random` in `Dataset.map`")
def draws_in_a_dataset(run: Run) -> Findings:
    with run.strategy.scope():
        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
        data = data.map(lambda x, y: (x + keras.random.normal((), dtype=x.dtype), y))
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(data, epochs=3, verbose=0)
    return trained(model)


@row("C19", "`(x, y, None)` from `Dataset.map`")
def none_in_a_batch(run: Run) -> Findings:
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).map(lambda x, y: (x, y, None))
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(data, epochs=3, verbose=0)
    return trained(model)
