"""Small models to plan, and a program that measures what a step of one takes.

    python -m tests.unit.tfscale.plan.planned_models FUNCTION REPLICAS MICROBATCHES RECOMPUTE

prints the bytes of TensorFlow's CPU allocator at the peak of a fit, beyond those before it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

if __name__ == "__main__":
    # This allocator counts its bytes; the usual one does not.
    os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "true"

import keras
import numpy as np
import tensorflow as tf
from keras import layers

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Made = tuple[keras.Model, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]


def mlp(rows: int = 2048, optimizer: Any = "adam") -> Made:
    hidden = [layers.Dense(512, activation="gelu") for _ in range(6)]
    model = keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10)])
    model.compile(optimizer, LOSS)
    return model, (np.ones((rows, 64), "float32"), np.zeros(rows, "int32"))


def wide_mlp() -> Made:
    """Has more parameters than activations."""
    hidden = [layers.Dense(1024, activation="relu") for _ in range(6)]
    model = keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10)])
    model.compile("adam", LOSS)
    return model, (np.ones((32, 64), "float32"), np.zeros(32, "int32"))


def cnn() -> Made:
    image = keras.Input((48, 48, 3))
    x = image
    for _ in range(4):
        x = layers.Conv2D(32, 3, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x))
    model = keras.Model(image, layers.Dense(10)(x))
    model.compile("adam", LOSS)
    return model, (np.ones((64, 48, 48, 3), "float32"), np.zeros(64, "int32"))


class Block(layers.Layer):
    """A transformer block, pre-norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first = layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.second = layers.LayerNormalization()
        self.up = layers.Dense(4 * width, activation="gelu")
        self.down = layers.Dense(width)

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


def measured(function: str, replicas: int, microbatches: int, recompute: str) -> int:
    """Returns the bytes of the peak of a fit, beyond those that are there before it."""
    import strategies
    import tfscale

    strategy = (
        strategies.mirrored_strategy(num_replicas=replicas)
        if replicas > 1
        else strategies.one_device_strategy("CPU:0")
    )
    with strategy.scope():
        model, (x, y) = globals()[function]()
    if recompute:
        tfscale.recompute(model, recompute)
    data = tf.data.Dataset.from_tensors((x, y)).repeat(3)
    parts = tfscale.callbacks.Microbatches(microbatches)
    model.fit(data, verbose=0, callbacks=[parts])
    before = tf.config.experimental.get_memory_info("CPU:0")["current"]
    tf.config.experimental.reset_memory_stats("CPU:0")
    model.fit(data, verbose=0, callbacks=[parts])
    return int(tf.config.experimental.get_memory_info("CPU:0")["peak"] - before)


if __name__ == "__main__":
    print(measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
