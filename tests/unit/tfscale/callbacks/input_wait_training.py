"""Trainings whose step and input take known times, so that the waiting is known too.

A batch is read ahead while a step computes. So a step takes the longer of the two times, and the
part that waits is 1 - computing / input if the input is longer, else 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.undisturbed import Lateness

ROWS = 4


class Sleep(keras.layers.Layer):
    """Takes `seconds` in every step, in the graph."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def call(self, inputs: Any) -> Any:
        def sleep(_: Any) -> np.ndarray:
            time.sleep(self.seconds)
            return np.zeros([], "float32")

        waited = tf.numpy_function(sleep, [inputs], tf.float32, stateful=True)
        return inputs + tf.ensure_shape(waited, [])


def model(strategy: tf.distribute.Strategy, seconds: float, **compiled: Any) -> keras.Model:
    with strategy.scope():
        built = keras.Sequential([keras.Input((1,)), Sleep(seconds), keras.layers.Dense(1)])
        built.compile("sgd", "mse", **compiled)
    return built


def forgetting(lateness: Lateness) -> keras.callbacks.Callback:
    """Returns a callback that forgets how late a process was in the first execution."""
    is_first = [True]

    def forget(batch: int, logs: Any = None) -> None:
        if batch and is_first:
            is_first.clear()
            lateness.forget()

    return keras.callbacks.LambdaCallback(on_train_batch_begin=forget)


def batches(seconds: float | Callable[[], float], steps: int) -> tf.data.Dataset:
    """Returns a dataset of `steps` batches, each of which takes `seconds`."""

    def rows() -> Iterator[Any]:
        for _ in range(steps):
            time.sleep(seconds() if callable(seconds) else seconds)
            yield np.ones([ROWS, 1], "float32"), np.ones([ROWS, 1], "float32")

    spec = tf.TensorSpec([ROWS, 1], tf.float32)
    dataset = tf.data.Dataset.from_generator(rows, output_signature=(spec, spec))
    return dataset.apply(tf.data.experimental.assert_cardinality(steps))
