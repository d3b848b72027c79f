"""Models to explain, with biases: without them ReLU has no kink on a line from 0."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

L = keras.layers


def with_biases(model: keras.Model, seed: int = 1) -> keras.Model:
    random = np.random.default_rng(seed)
    model.set_weights(
        [w + 0.3 * random.uniform(size=w.shape) * (w.ndim == 1) for w in model.get_weights()]
    )
    return model


def mlp(strategy: tf.distribute.Strategy) -> keras.Model:
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((5,), name="x"),
                L.Dense(12, "relu"),
                L.Dropout(0.5),
                L.Dense(3, "softmax"),
            ]
        )
        return with_biases(model)


def cnn(strategy: tf.distribute.Strategy) -> keras.Model:
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                L.Conv2D(3, 3, activation="relu"),
                L.MaxPooling2D(),
                L.BatchNormalization(),
                L.Flatten(),
                L.Dense(4, "softmax"),
            ]
        )
        return with_biases(model)


def transformer(strategy: tf.distribute.Strategy) -> keras.Model:
    """Tokens with positions and a mask."""
    with strategy.scope():
        keras.utils.set_random_seed(0)
        tokens = keras.Input((6,), dtype="int32", name="tokens")
        h = L.Embedding(20, 4, mask_zero=True)(tokens)
        h = h + L.Embedding(6, 4)(keras.ops.arange(6))
        h = h + L.MultiHeadAttention(2, 2)(h, h)
        h = L.LayerNormalization()(h)
        h = L.GlobalAveragePooling1D()(h + L.Dense(4, "gelu")(h))
        return with_biases(keras.Model(tokens, L.Dense(3, "softmax")(h)))


def rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def tokens(count: int, length: int = 6) -> np.ndarray:
    found = np.random.default_rng(0).integers(1, 20, size=(count, length))
    found[:, -1] = 0
    return found
