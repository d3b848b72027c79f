"""Small models of these tests; results are known by hand or from one device."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

ROWS = 22


def rows() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.normal(size=[ROWS, 3]), draw.normal(size=[ROWS, 1])


def regression(strategy: tf.distribute.Strategy, **arguments: Any) -> Any:
    """A linear model of `rows`; its weights depend on the order of the batches."""
    with strategy.scope():
        dense = keras.layers.Dense(1, kernel_initializer="ones")
        model = keras.Sequential([keras.Input((3,)), dense])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.5), "mse", **arguments)
    return model


def counter(strategy: tf.distribute.Strategy, num_examples: int) -> Any:
    """A model whose weights count how often each example was trained on."""
    with strategy.scope():
        embedding = keras.layers.Embedding(num_examples, 1, embeddings_initializer="zeros")
        layers = [keras.Input((1,), dtype="int32"), embedding, keras.layers.Flatten()]
        model = keras.Sequential(layers)
        loss = keras.losses.MeanAbsoluteError(reduction="sum")  # below the target: gradient -1
        model.compile(keras.optimizers.SGD(1.0), loss)
    return model


def visits(model: Any) -> list[float]:
    return [float(count) for count in model.get_weights()[0][:, 0]]


def numbers(model: Any) -> list[float]:
    return [float(value) for weight in model.get_weights() for value in np.ravel(weight)]
