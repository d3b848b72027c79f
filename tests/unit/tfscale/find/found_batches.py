"""Models for probes of batch sizes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

ROWS = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")


def _model(*layers: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "mse")
    return model


def linear(batch_size: int) -> tuple[keras.Model, Any]:
    return _model(keras.layers.Dense(1)), (ROWS, ROWS[:, :1])


class Hungry(keras.layers.Layer):
    """Needs two MiB of the host for each row."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        wide = tf.ones([tf.shape(x)[0], 2**19]) * x[:, :1]
        return x + 0 * tf.reduce_sum(tf.sort(wide), axis=1, keepdims=True)


def hungry(batch_size: int) -> tuple[keras.Model, Any]:
    return _model(Hungry(), keras.layers.Dense(1)), (ROWS, ROWS[:, :1])


class Huge(keras.layers.Layer):
    """Needs a GiB of the host for each row."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        wide = tf.zeros([tf.shape(x)[0], 2**28]) + x[:, :1]
        return x + 0 * tf.reduce_mean(wide, axis=1, keepdims=True)


def huge(batch_size: int) -> tuple[keras.Model, Any]:
    return _model(Huge(), keras.layers.Dense(1)), (ROWS, ROWS[:, :1])


def own_batches(batch_size: int) -> tuple[keras.Model, Any]:
    data = tf.data.Dataset.from_tensor_slices((ROWS, ROWS[:, :1])).repeat().batch(batch_size)
    return _model(keras.layers.Dense(1)), data


def other_batches(batch_size: int) -> tuple[keras.Model, Any]:
    return _model(keras.layers.Dense(1)), own_batches(7)[1]


def slow(batch_size: int) -> tuple[keras.Model, Any]:
    def wait(x: Any) -> Any:
        import time

        time.sleep(60)
        return x

    layer = keras.layers.Lambda(
        lambda x: tf.ensure_shape(tf.py_function(wait, [x], x.dtype), x.shape)
    )
    return _model(layer, keras.layers.Dense(1)), (ROWS, ROWS[:, :1])


def broken(batch_size: int) -> tuple[keras.Model, Any]:
    return _model(keras.layers.Dense(1)), (ROWS, np.ones([64, 3, 3], "float32"))
