"""A custom step or layer trains another model without an error."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.defects.row import Findings, Run, X, Y, row, trained


class OwnClip(keras.Sequential):
    """Clips gradients by their norm before it applies them."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        clipped, norm = tf.clip_by_global_norm(gradients, 0.3)
        self.optimizer.apply_gradients(zip(clipped, self.trainable_variables, strict=True))
        return {"norm": norm}


@row("S21", "`tf.clip_by_global_norm` in `train_step`, the norm in history")
def own_clipping(run: Run) -> Findings:
    with run.strategy.scope():
        model = OwnClip([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0).history
    return {"norm": history["norm"][-1], **trained(model)}


class Center(layers.Layer):
    """Subtracts a running mean."""

    aggregation = "none"

    def build(self, shape: Any) -> None:
        self.mean = self.add_weight(
            shape=(shape[-1],), initializer="zeros", trainable=False, aggregation=self.aggregation
        )

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * keras.ops.mean(x, axis=0))
        return x - self.mean


@row("S22", "a layer with a running mean, updated in `call`")
def running_mean(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), Center(), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X + 2.0, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)


class Positions(layers.Layer):
    """Adds a row of its table to each position of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.table = layers.Embedding(4, 3)

    def call(self, x: Any) -> Any:
        return x + self.table(keras.ops.arange(4))


@row("S25", "a position table: `Embedding` of `arange`, with Adam")
def position_table(run: Run) -> Findings:
    with run.strategy.scope():
        parts = [keras.Input((4, 3)), Positions(), layers.Flatten(), layers.Dense(2)]
        model = keras.Sequential(parts)
        model.compile(keras.optimizers.Adam(0.01), "mse")
    x = np.repeat(X[:, None], 4, axis=1)
    model.fit(x, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)


@row("S25", "a sparse input of `Dense`, with Adam")
def sparse_input(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,), sparse=True), layers.Dense(2)])
        model.compile(keras.optimizers.Adam(0.01), "mse")
    sparse = tf.sparse.from_dense(np.where(X > 0.5, X, 0.0))
    dataset = tf.data.Dataset.from_tensor_slices((sparse, Y)).batch(8)
    model.fit(dataset, epochs=3, verbose=0)
    return trained(model)


class PenalizedCenter(Center):
    """Declares that its state is a mean, and adds a penalty after it has updated it."""

    aggregation = "mean"

    def call(self, x: Any, training: bool = False) -> Any:
        centered = super().call(x, training=training)
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(x)))
        return centered


@row("S33", "`add_loss` and a variable with `aggregation='mean'`")
def penalty_beside_mean(run: Run) -> Findings:
    with run.strategy.scope():
        parts = [keras.Input((3,)), layers.Dense(3), PenalizedCenter(), layers.Dense(2)]
        model = keras.Sequential(parts)
        model.compile(keras.optimizers.SGD(0.01), "mse")
    history = model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0).history
    return {"loss in history": history["loss"][-1], **trained(model)}


class Penalized(layers.Layer):
    """Adds a penalty on what is inside of it."""

    def build(self, shape: Any) -> None:
        self.hidden = layers.Dense(4, activation="tanh")
        self.hidden.build(shape)

    def call(self, x: Any) -> Any:
        hidden = self.hidden(x)
        self.add_loss(0.5 * keras.ops.mean(keras.ops.square(hidden)))
        return hidden


@row("S34", "`RematScope` around a layer that calls `add_loss`")
def recomputed_penalty(run: Run) -> Findings:
    is_one_device = run.strategy.num_replicas_in_sync == 1  # Keras recomputes wrongly there too
    with run.strategy.scope(), keras.RematScope(None if is_one_device else "full"):
        penalized = Penalized()
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), penalized, layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)


class WithMaximum(layers.Layer):
    """Adds to each row its largest number."""

    def call(self, x: Any) -> Any:
        return keras.ops.add(x, keras.ops.max(x, axis=-1, keepdims=True))


@row("S35", "`ops.add` of a number for each row, with as many rows on a replica as columns")
def column_added(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential(
            [keras.Input((3,)), layers.Dense(4), WithMaximum(), layers.Dense(2)]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return trained(model)
