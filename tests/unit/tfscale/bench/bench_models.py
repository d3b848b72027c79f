"""Functions for `tfscale bench`, as users write them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf


def _compiled(learning_rate: float = 0.01) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), "mse", jit_compile=False)
    return model


def linear() -> Any:
    """As a dataset whose last batch is smaller."""
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, x[:, :1], np.ones(20, "float32"))).batch(8)
    return _compiled(), data


def diverging() -> Any:
    x = np.ones((16, 3), "float32")
    return _compiled(1e30), (x, x[:, :1])
