"""Models with faults planted: each at a line that ends in `# fault: NAME`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

IMAGES = (np.ones([16, 8, 8, 1], np.float32), np.ones([16, 1], np.float32))


class Through(layers.Layer):
    """A layer that does what a function says."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class HostMetric(keras.metrics.Mean):
    """A metric that computes in NumPy."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        value = tf.numpy_function(np.median, [y_pred], tf.float32)  # fault: metric
        return super().update_state(tf.ensure_shape(value, []))


class EagerMetric(keras.metrics.Mean):
    """A metric that wants values where there are none."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().update_state(np.median(y_pred))  # fault: eager metric


def compiled(*inner: Any, metrics: Any = None, **arguments: Any) -> Any:
    model = keras.Sequential([keras.Input((8, 8, 1)), *inner, layers.Flatten(), layers.Dense(1)])
    model.compile("adam", "mse", metrics=metrics, **arguments)
    return model


def clean() -> Any:
    return compiled(layers.Conv2D(2, 3), layers.BatchNormalization(), metrics=["mae"]), IMAGES


def printing() -> Any:
    def through(x: Any) -> Any:
        tf.print(tf.reduce_mean(x))  # fault: print alone
        return x * tf.cast(tf.constant(2.0, tf.float64), x.dtype)  # no float64 is computed

    return compiled(Through(through)), IMAGES


def stitched() -> Any:
    def through(x: Any) -> Any:
        flat = tf.reshape(x, [-1])
        places = tf.dynamic_partition(tf.range(tf.size(flat)), tf.cast(flat > 0, tf.int32), 2)
        parts = [tf.gather(flat, part) for part in places]
        return tf.reshape(tf.dynamic_stitch(places, parts), tf.shape(x))  # fault: stitched

    return compiled(Through(through)), IMAGES


def text_of(x: Any) -> Any:
    text = tf.strings.as_string(x)  # fault: string
    return 0.0 * tf.cast(tf.strings.length(text), x.dtype)


def in_branch(x: Any) -> Any:
    def loud() -> Any:
        boxes = tf.constant([[0.0, 0.0, 1.0, 1.0]])
        return x + tf.reduce_sum(tf.image.crop_and_resize(x, boxes, [0], [4, 4]))  # fault: crop

    return tf.cond(tf.reduce_sum(x) > 0, loud, lambda: x)


def in_loop(x: Any) -> Any:
    def body(i: Any, y: Any) -> Any:
        y = tf.py_function(lambda v: v, [y], y.dtype)  # fault: py_function
        return i + 1, tf.ensure_shape(y, x.shape)

    return tf.while_loop(lambda i, _: i < 3, body, (0, x))[1]


def faulty(x: Any) -> Any:
    tf.print("mean", tf.reduce_mean(x))  # fault: print
    rows = tf.RaggedTensor.from_row_lengths(tf.reshape(x, [-1]), [3, 5])
    x += tf.reduce_sum(rows.to_tensor(shape=[2, 5]))  # fault: ragged
    x += tf.reduce_sum(tf.unique(tf.reshape(x, [-1]))[0])  # fault: unique
    x = tf.cast(tf.cast(x, tf.float64) * 2, x.dtype)  # fault: float64
    unused = tf.strings.as_string(x)
    del unused
    return in_loop(in_branch(x + text_of(x)))


def everything() -> Any:
    turned = layers.RandomRotation(0.1)  # fault: rotation
    return compiled(Through(faulty), turned, metrics=[HostMetric()]), IMAGES


def untraceable() -> Any:
    return compiled(Through(lambda x: x + text_of(x)), metrics=[EagerMetric()]), IMAGES


def awkward() -> Any:  # fault: data and settings
    images, labels = IMAGES

    def forget(image: Any, label: Any) -> Any:
        image = tf.numpy_function(lambda v: v, [image], tf.float32)
        return tf.ensure_shape(image, [None, 8, 1]), label

    data = tf.data.Dataset.from_tensor_slices((images, labels)).map(forget)
    pooled = [layers.Conv2D(2, 3), layers.GlobalMaxPooling2D()]
    last = layers.Dense(1, dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((None, 8, 1)), *pooled, last])
    model.compile("sgd", "mse", jit_compile=True)
    return model, data.batch(6, drop_remainder=True)
