"""Training steps that need the whole batch: a detector's loss, a contrastive one, a condition."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

import tfscale
from tests.unit.strategies.keras_support.beside_one_device import Found, X, Y, found


class Detector(keras.Sequential):
    """Divides by the number of its positives, as a RetinaNet does, and logs it."""

    def total_loss(self, x: Any, y: Any, training: bool) -> tuple[Any, Any]:
        errors = tf.reduce_sum((self(x, training=training) - y) ** 2, axis=1)
        is_positive = tf.cast(y[:, 0] > 0.3, errors.dtype)
        positives = tf.reduce_sum(is_positive)
        by_positives = tfscale.ratio_over_replicas(tf.reduce_sum(errors * is_positive), positives)
        # A learned divisor: the mean of errors, weighted by an output of the model.
        weights = tf.exp(self.layers[0].kernel[0, 0] * x[:, 0])
        by_weights = tfscale.ratio_over_replicas(
            tf.reduce_sum(weights * errors), tf.reduce_sum(weights)
        )
        loss = by_positives + 0.1 * by_weights + 0.01 * tf.reduce_mean(errors)
        return loss, tfscale.sum_over_replicas(tf.math.count_nonzero(is_positive))

    def train_step(self, data: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            x, y = data
            loss, positives = self.total_loss(x, y, training=True)
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        return {"own": loss, "positives": positives}

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        loss, positives = self.total_loss(x, y, training=False)
        return {"own": loss, "positives": positives}


class Contrastive(keras.Sequential):
    """SimCLR: the two views of an example match each other among those of the whole batch."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, _ = data
        with tf.GradientTape() as tape:
            views = [tf.math.l2_normalize(self(part, training=True), 1) for part in (x, x * x + 1)]
            first, second = (tfscale.all_gather(view) for view in views)
            similarity = tf.matmul(first, second, transpose_b=True)
            labels = tf.range(tf.shape(first)[0])
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, similarity)
            loss = tf.reduce_mean(losses)
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        return {"own": loss}


class OwnRows(Contrastive):
    """The same, with the losses of the rows of each replica."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            outputs = self(x, training=True)
            everything = tfscale.all_gather(outputs)
            distances = tf.reduce_sum((outputs[:, None] - everything[None]) ** 2, axis=2)
            loss = tf.reduce_mean(tf.math.log1p(distances) * y[:, :1])
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        return {"own": loss}


class Centred(keras.Sequential):
    """Its loss uses the mean over the batch: the variance of the outputs."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, _ = data
        with tf.GradientTape() as tape:
            outputs = self(x, training=True)
            mean = tfscale.mean_over_replicas(tf.reduce_mean(outputs, axis=0))
            loss = tf.reduce_mean((outputs - mean) ** 2) + tf.reduce_sum(mean**3)
        gradients = tape.gradient(loss, self.trainable_weights)
        is_large = tfscale.mean_over_replicas(loss) > 0.5
        scale = tf.where(is_large, tf.constant(0.5, loss.dtype), tf.constant(1.0, loss.dtype))
        self.optimizer.apply([g * scale for g in gradients], self.trainable_weights)
        return {"own": loss, "large": is_large}


STEPS = (Detector, Contrastive, OwnRows, Centred)


def trained(
    strategy: tf.distribute.Strategy, step: type[Any], batch_size: int, eagerly: bool = False
) -> Found:
    """Trains on 22 examples; the log is that of the last batch."""
    with strategy.scope():
        dense = keras.layers.Dense(2, kernel_initializer="glorot_uniform")
        model = step([keras.Input((3,)), dense])
        model.compile(keras.optimizers.SGD(0.02), run_eagerly=eagerly)
    options = {"batch_size": batch_size, "verbose": 0}
    history = model.fit(X, Y, epochs=2, shuffle=False, **options)
    shown = found(model, history)
    if step is Detector:
        evaluated = model.evaluate(X, Y, return_dict=True, **options)
        shown |= {f"evaluated {name}": value for name, value in evaluated.items()}
    return shown
