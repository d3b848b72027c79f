"""Small models to plan and to measure, one of each family."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from tfscale.parallel import TensorRule

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RULES = [
    TensorRule(".*/(up|query|key|value)", "column"),
    TensorRule(".*/(down|attention_output)", "row"),
]
"""For the blocks of transformers."""
Made = tuple[keras.Model, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]


def mlp(rows: int = 2048, optimizer: Any = "adam") -> Made:
    hidden = [layers.Dense(512, activation="gelu") for _ in range(6)]
    model = keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10)])
    model.compile(optimizer, LOSS)
    return model, (np.ones((rows, 64), "float32"), np.zeros(rows, "int32"))


def wide_mlp(width: int = 1024) -> Made:
    """Has more parameters than activations."""
    hidden = [layers.Dense(width, activation="relu") for _ in range(6)]
    model = keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10)])
    model.compile("adam", LOSS)
    return model, (np.ones((32, 64), "float32"), np.zeros(32, "int32"))


class Block(layers.Layer):
    """A transformer block, pre-norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first = layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.second = layers.LayerNormalization()
        self.up = layers.Dense(4 * width, activation="gelu", name="up")
        self.down = layers.Dense(width, name="down")

    def build(self, shape: Any) -> None:
        self.first.build(shape)
        self.attention.build(shape, shape)
        self.second.build(shape)
        self.up.build(shape)
        self.down.build((*shape[:-1], 4 * shape[-1]))

    def call(self, x: Any) -> Any:
        y = self.first(x)
        x = x + self.attention(y, y, use_causal_mask=True)
        return x + self.down(self.up(self.second(x)))

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def transformer() -> Made:
    tokens = keras.Input((128,), dtype="int32")
    x = layers.Embedding(500, 128)(tokens)
    for _ in range(4):
        x = Block(128, 4)(x)
    model = keras.Model(tokens, layers.Dense(500)(layers.LayerNormalization()(x)))
    model.compile("adam", LOSS)
    return model, (np.ones((16, 128), "int32"), np.zeros((16, 128), "int32"))


def wider_mlp() -> Made:
    return wide_mlp(2048)


def wide_transformer() -> Made:
    """Has more parameters than activations, too."""
    x = tokens = keras.Input((16, 512))
    for _ in range(6):
        x = Block(512, 4)(x)
    model = keras.Model(tokens, layers.Dense(10)(x))
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    return model, (np.ones((8, 16, 512), "float32"), np.zeros((8, 16), "int32"))


def _classifier(image: Any, x: Any, rows: int = 64) -> Made:
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x))
    model = keras.Model(image, layers.Dense(10)(x))
    model.compile("adam", LOSS)
    return model, (np.ones((rows, *image.shape[1:]), "float32"), np.zeros(rows, "int32"))


def plain_cnn() -> Made:
    """Layers of convolution, bias and activation, with more channels where images are smaller."""
    x = image = keras.Input((64, 64, 3))
    for channels in (32, 64, 96):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    return _classifier(image, x, 32)


def batch_norm_cnn() -> Made:
    x = image = keras.Input((48, 48, 3))
    for _ in range(4):
        x = layers.Conv2D(32, 3, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return _classifier(image, x)


def residual_cnn() -> Made:
    """Blocks of two convolutions, as in a ResNet."""
    image = keras.Input((48, 48, 3))
    x = layers.Conv2D(24, 3, padding="same")(image)
    for channels, strides in ((24, 1), (24, 1), (48, 2), (48, 1)):
        y = layers.Conv2D(channels, 3, strides, padding="same", use_bias=False)(x)
        y = layers.Activation("relu")(layers.BatchNormalization()(y))
        y = layers.Conv2D(channels, 3, padding="same", use_bias=False)(y)
        y = layers.BatchNormalization()(y)
        if strides > 1:
            x = layers.Conv2D(channels, 1, strides, use_bias=False)(x)
        x = layers.Activation("relu")(layers.Add()([x, y]))
    return _classifier(image, x)


def depthwise_cnn() -> Made:
    """Blocks as in a MobileNet."""
    image = keras.Input((48, 48, 3))
    x = layers.Conv2D(32, 3, padding="same")(image)
    for _ in range(3):
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.Conv2D(32, 1, use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return _classifier(image, x)


def lstm() -> Made:
    tokens = keras.Input((64,), dtype="int32")
    x = layers.Embedding(1000, 128)(tokens)
    for _ in range(2):
        x = layers.LSTM(128, return_sequences=True)(x)
    model = keras.Model(tokens, layers.Dense(100)(x))
    model.compile("adam", LOSS)
    return model, (np.ones((128, 64), "int32"), np.zeros((128, 64), "int32"))


def embedding() -> Made:
    """A large table, of which a batch uses few rows."""
    tokens = keras.Input((32,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(20_000, 256)(tokens))
    model = keras.Model(tokens, layers.Dense(10)(layers.Dense(256, "relu")(x)))
    model.compile("adam", LOSS)
    return model, (np.ones((512, 32), "int32"), np.zeros(512, "int32"))


def tied() -> Made:
    """A table that the first stage looks up and the last multiplies with, and a layer twice."""
    tokens = keras.Input((4,), dtype="int32")
    embedding = layers.ReversibleEmbedding(300, 16, name="embedding")
    shared = layers.Dense(16, "tanh", name="shared")
    hidden = layers.Dense(16, "tanh", name="second")(shared(embedding(tokens)))
    hidden = layers.Dense(16, "tanh", name="third")(hidden)
    model = keras.Model(tokens, embedding(shared(hidden), reverse=True))
    model.compile(keras.optimizers.Adam(global_clipnorm=1.0), LOSS, jit_compile=False)
    return model, (np.ones((16, 4), "int32"), np.zeros((16, 4), "int32"))


def averaging_mlp() -> Made:
    return mlp(optimizer=keras.optimizers.Adam(use_ema=True, ema_overwrite_frequency=None))


def accumulating_mlp() -> Made:
    return mlp(optimizer=keras.optimizers.Adam(gradient_accumulation_steps=2))


def decaying_mlp() -> Made:
    model, data = wide_mlp()
    model.compile("adamw", LOSS)
    return model, data
