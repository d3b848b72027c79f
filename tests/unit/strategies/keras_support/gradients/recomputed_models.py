"""Small models with layers to recompute, each with what a second pass could get wrong."""

from __future__ import annotations

from typing import Any

import keras

from tests.unit.strategies.keras_support.beside_one_device import DRAW

layers, ops = keras.layers, keras.ops
TOKENS = DRAW.integers(0, 11, size=[12, 5])
NEXT_TOKENS = DRAW.integers(0, 11, size=[12, 5])
IMAGES, TARGETS = DRAW.normal(size=[12, 5, 5, 2]), DRAW.normal(size=[12, 1])


class Block(keras.Layer):
    """A block of a transformer; its `call` takes no `training`, its dropouts need it."""

    def __init__(self, width: int, rate: float, name: str) -> None:
        super().__init__(name=name)
        self.norm = layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(2, width // 2, dropout=rate, seed=1)
        self.up = layers.Dense(2 * width, activation="gelu")
        self.down = layers.Dense(width)
        self.dropout = layers.Dropout(rate, seed=2)

    def build(self, shape: Any) -> None:
        self.norm.build(shape)
        self.attention.build(shape, shape)
        self.up.build(shape)
        self.down.build((*shape[:-1], 2 * shape[-1]))

    def call(self, x: Any) -> Any:
        normed = self.norm(x)
        x = x + self.attention(normed, normed, use_causal_mask=True)
        out = self.dropout(self.down(self.up(x)))
        self.add_loss(0.01 * ops.mean(ops.square(ops.cast(out, keras.config.floatx()))))
        return x + out


class Convolution(keras.Layer):
    """Convolution, BatchNormalization and a running mean of its own, with `training`."""

    def __init__(self, filters: int, rate: float, name: str) -> None:
        super().__init__(name=name)
        self.convolution = layers.Conv2D(
            filters, 3, padding="same", kernel_regularizer="l2", activity_regularizer="l1"
        )
        self.norm = layers.BatchNormalization(synchronized=True, momentum=0.7)
        self.dropout = layers.SpatialDropout2D(rate, seed=3)

    def build(self, shape: Any) -> None:
        self.convolution.build(shape)
        shape = (*shape[:-1], self.convolution.filters)
        self.norm.build(shape)
        self.mean = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        x = self.norm(self.convolution(x), training=training)
        shifted = x - self.mean
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(x, axis=(0, 1, 2)))
        return self.dropout(ops.relu(shifted), training=training)


def transformer(rate: float) -> tuple[Any, Any, Any]:
    """Returns a compiled model, its inputs and its targets."""
    inputs = keras.Input([5], dtype="int32")
    x = layers.Embedding(11, 8)(inputs)
    for i in range(2):
        x = Block(8, rate, name=f"block_{i}")(x)
    model = keras.Model(inputs, layers.Dense(11)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-2, global_clipnorm=1.0), loss)
    return model, TOKENS, NEXT_TOKENS


def convolutions(rate: float) -> tuple[Any, Any, Any]:
    """Returns a compiled model, its inputs and its targets."""
    inputs = keras.Input([5, 5, 2])
    x = inputs
    for i in range(2):
        x = Convolution(3, rate, name=f"block_{i}")(x)
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    return model, IMAGES, TARGETS


def small(rate: float) -> tuple[Any, Any, Any]:
    """Returns a compiled model of one `Convolution` and a dense layer with a loss of its own."""
    inputs = keras.Input([5, 5, 2])
    x = Convolution(2, rate, name="block_0")(inputs)
    dense = layers.Dense(3, "tanh", activity_regularizer="l2", name="block_1")
    model = keras.Model(inputs, layers.Dense(1)(dense(layers.Flatten()(x))))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    return model, IMAGES, TARGETS


def attended(rate: float) -> tuple[Any, Any, Any]:
    """Returns a compiled model of attention, which takes the masks off the tensors it is given."""
    inputs = keras.Input([5], dtype="int32")
    x = layers.Embedding(11, 4, mask_zero=True)(inputs)
    x = layers.MultiHeadAttention(2, 2, dropout=rate, name="block_0")(x, x)
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x)))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model, TOKENS, TARGETS


def masked(rate: float) -> tuple[Any, Any, Any]:
    """Returns a compiled model whose recomputed layer gets its mask from Keras.

    A mean over the tokens that count uses it.
    """
    inputs = keras.Input([5], dtype="int32")
    x = layers.Embedding(11, 4, mask_zero=True)(inputs)
    parts = [layers.Dense(3, "tanh"), layers.Dropout(rate, seed=4), layers.GlobalAveragePooling1D()]
    inner = keras.Sequential([keras.Input([5, 4]), *parts], name="block_0")
    model = keras.Model(inputs, layers.Dense(1)(inner(x)))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model, TOKENS, TARGETS


MODELS = {
    "transformer": transformer,
    "convolutions": convolutions,
    "small": small,
    "masked": masked,
    "attended": attended,
}
