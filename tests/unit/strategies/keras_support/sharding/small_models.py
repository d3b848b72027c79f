"""Small models of each kind, with their data, that are trained on one device and in parts.

No gradient in them is zero but for rounding, which an optimizer that divides by it would magnify:
convolutions before BatchNormalization and the projections of attention have no bias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tests.unit.strategies.keras_support.beside_one_device import X, Y

L = keras.layers
DRAW = np.random.default_rng(4)
IDS = DRAW.integers(0, 17, size=(22, 3))
IMAGES = DRAW.normal(size=(22, 6, 6, 2))
SENTENCES = DRAW.integers(0, 13, size=(22, 6))


@dataclass(frozen=True)
class Work:
    """What is trained: a model, its 22 examples, loss and metrics."""

    model: Any
    inputs: Any
    labels: Any
    loss: Any = "mse"
    metrics: tuple[str, ...] = ("mae",)


Build = Callable[[], Work]


def dense_layers() -> Work:
    """With a regularizer, and a constraint that looks at a whole kernel."""
    layers = [
        keras.Input((3,)),
        L.Dense(7, "tanh", kernel_regularizer="l2"),
        L.Dense(7, "tanh", kernel_constraint="max_norm"),
        L.Dense(2),
    ]
    return Work(keras.Sequential(layers), X, Y)


def six_columns() -> Work:
    """A kernel of which each of three replicas has two columns."""
    return Work(keras.Sequential([keras.Input((3,)), L.Dense(6)]), X, Y)


def embeddings() -> Work:
    """Lookups of ids, some of them equal, and by position; a table that is cut by columns."""
    ids = keras.Input((3,), dtype="int32")
    places = L.Embedding(3, 4)(keras.ops.arange(3))
    hidden = L.Embedding(17, 4)(ids) + places
    wide = L.Embedding(17, 20)(ids)
    both = L.Flatten()(L.Concatenate()([hidden, wide]))
    return Work(keras.Model(ids, L.Dense(2)(both)), IDS, Y)


def convolutions() -> Work:
    """With statistics of the global batch."""
    layers = [
        keras.Input((6, 6, 2)),
        L.Conv2D(5, 3, use_bias=False),
        L.BatchNormalization(synchronized=True),
        L.ReLU(),
        L.Conv2D(4, 2, use_bias=False),
        L.BatchNormalization(synchronized=True),
        L.ReLU(),
        L.GlobalAveragePooling2D(),
        L.Dense(2),
    ]
    return Work(keras.Sequential(layers), IMAGES, Y)


def decoder() -> Work:
    """Two blocks that predict the next of 13 tokens."""
    tokens = keras.Input((5,), dtype="int32")
    x = L.Embedding(13, 8)(tokens) + L.Embedding(5, 8)(keras.ops.arange(5))
    for _ in range(2):
        normal = L.LayerNormalization()(x)
        heads = L.MultiHeadAttention(2, 4, use_bias=False)
        x = x + heads(normal, normal, use_causal_mask=True)
        hidden = L.Dense(12, "gelu")(L.LayerNormalization()(x))
        x = x + L.Dense(8)(hidden)
    logits = L.Dense(13)(L.LayerNormalization()(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Work(keras.Model(tokens, logits), SENTENCES[:, :-1], SENTENCES[:, 1:], loss, ())
