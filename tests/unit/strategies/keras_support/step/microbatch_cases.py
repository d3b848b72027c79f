"""Models and data that are trained in microbatches, and as whole batches by stock Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

DRAW = np.random.default_rng(5)
TOKENS = DRAW.integers(1, 9, size=(14, 5)) * (DRAW.random((14, 5)) > 0.4)
TOKENS[3] = 0  # a row without a valid token
FEATURES = DRAW.normal(size=(14, 3))
IMAGES = DRAW.normal(size=(14, 5, 5, 1))
NUMBERS = DRAW.normal(size=(14, 1))
BY_TOKEN = DRAW.normal(size=(14, 5, 1))
WEIGHTS, TOKEN_WEIGHTS = DRAW.uniform(0.2, 2, size=14), DRAW.uniform(0.2, 2, size=(14, 5))
CLASSES = DRAW.integers(0, 3, size=14)
layers = keras.layers


def attention(reduction: str) -> Any:
    """Attention over tokens; masked, so its loss divides by the valid tokens."""
    inputs = keras.Input([5], dtype="int32")
    embedded = layers.Embedding(9, 4, mask_zero=True)(inputs)
    mixed = layers.MultiHeadAttention(1, 4)(embedded, embedded)
    hidden = layers.Dense(3, "tanh", kernel_regularizer="l2")(layers.add([embedded, mixed]))
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    model.compile(
        keras.optimizers.Adam(0.05, clipnorm=0.3, use_ema=True),
        keras.losses.MeanSquaredError(reduction=reduction),
        weighted_metrics=["mae"],
    )
    return model


def small_masked() -> Any:
    """The smallest model whose loss divides by the valid tokens."""
    model = keras.Sequential([layers.Embedding(9, 2, mask_zero=True), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), "mse", weighted_metrics=["mae"])
    return model


def convolution() -> Any:
    model = keras.Sequential(
        [
            keras.Input([5, 5, 1]),
            layers.Conv2D(2, 2, activation="relu", activity_regularizer=keras.regularizers.L2(0.1)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    model.compile(
        keras.optimizers.AdamW(0.05, global_clipnorm=0.2, gradient_accumulation_steps=2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=2,
    )
    return model


class SumsRows(keras.layers.Layer):
    """Adds a value for each example to the losses; Keras adds them up."""

    def call(self, x: Any) -> Any:
        self.add_loss(0.01 * tf.reduce_sum(tf.square(x), axis=1))
        return x


def two_outputs() -> Any:
    inputs = keras.Input([3])
    hidden = SumsRows()(layers.Dense(4, "tanh")(inputs))
    outputs = {"a": layers.Dense(1, name="a")(hidden), "b": layers.Dense(1, name="b")(hidden)}
    model = keras.Model(inputs, outputs)
    losses = {"a": keras.losses.MeanSquaredError(reduction="sum"), "b": "mae"}
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), losses, loss_weights={"a": 0.2, "b": 3})
    return model


def words() -> Any:
    inputs = keras.Input([], dtype="string")
    ids = layers.StringLookup(vocabulary=["a", "b", "c"], num_oov_indices=0)(inputs)
    model = keras.Model(inputs, layers.Dense(1)(layers.Embedding(3, 2)(ids)))
    model.compile(keras.optimizers.RMSprop(0.05), "mse")
    return model


class MeanOfRow(keras.layers.Layer):
    """The mean of a ragged row."""

    def call(self, x: Any) -> Any:
        return tf.reduce_mean(x, axis=1)[:, tf.newaxis]


def ragged() -> Any:
    inputs = keras.Input([None], ragged=True)
    model = keras.Model(inputs, layers.Dense(1)(MeanOfRow()(inputs)))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


Case = tuple[Callable[[], Any], Callable[[int], dict[str, Any]]]


def of_arrays(x: Any, y: Any, **more: Any) -> Callable[[int], dict[str, Any]]:
    return lambda size: {"x": x, "y": y, "batch_size": size, "shuffle": False, **more}


def of_dataset(*parts: Any) -> Callable[[int], dict[str, Any]]:
    return lambda size: {"x": tf.data.Dataset.from_tensor_slices(parts).batch(size)}


def ragged_rows(size: int) -> dict[str, Any]:
    lengths = [1, 2, 3, 4, 5, 6, 7, *([3] * 7)]
    rows = tf.RaggedTensor.from_row_lengths(np.arange(49.0) / 49, lengths)
    return of_dataset(rows, NUMBERS)(size)


CASES: dict[str, Case] = {
    "a small masked mean": (
        small_masked,
        of_arrays(TOKENS, BY_TOKEN, sample_weight=TOKEN_WEIGHTS),
    ),
    "a masked mean": (
        lambda: attention("sum_over_batch_size"),
        of_arrays(TOKENS, BY_TOKEN, sample_weight=TOKEN_WEIGHTS),
    ),
    "a mean by weights": (
        lambda: attention("mean_with_sample_weight"),
        of_arrays(TOKENS, BY_TOKEN, sample_weight=TOKEN_WEIGHTS),
    ),
    "a convolution": (
        convolution,
        of_arrays(IMAGES, CLASSES, class_weight={0: 0.5, 1: 1.0, 2: 2.0}),
    ),
    "two outputs": (two_outputs, of_arrays(FEATURES, {"a": NUMBERS, "b": -NUMBERS})),
    "words": (words, of_dataset([*"abcacbabcabbca"], NUMBERS, WEIGHTS)),
    "ragged rows": (ragged, ragged_rows),
}
