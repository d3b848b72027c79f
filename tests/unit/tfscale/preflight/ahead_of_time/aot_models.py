"""Models to compile ahead of time: each function returns `(model, data)`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

SEQUENCE = 512
VOCABULARY = 20_000


def tiny() -> tuple[keras.Model, Any]:
    """A dense network: compiles in seconds."""
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(32, "relu", name="hidden"),
            layers.Dense(4, name="end"),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-3), "mse", jit_compile=False)
    return model, (np.zeros((8, 16), "float32"), np.zeros((8, 4), "float32"))


def cnn(batch_size: int = 64) -> tuple[keras.Model, Any]:
    """The small network that the JAX backend is compared on: no random numbers, no statistics."""
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(128, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    images = np.zeros((batch_size, 32, 32, 3), "float32")
    return model, (images, np.zeros((batch_size,), "int32"))


def embedding() -> tuple[keras.Model, Any]:
    """A table of 1.28 million numbers, of whose rows a batch takes a few, some of them twice."""
    words = keras.Input((16,), dtype="int32", name="words")
    x = layers.Embedding(VOCABULARY, 64, name="table")(words)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(words, layers.Dense(1, name="end")(x))
    model.compile(keras.optimizers.Adam(1e-3), "mse", jit_compile=False)
    return model, (np.zeros((32, 16), "int32"), np.zeros((32, 1), "float32"))


def transformer(batch_size: int = 64, dtype: str = "float32") -> tuple[keras.Model, Any]:
    """45.7 million parameters: 8 blocks of width 512, 8 heads, 64 sequences of 512 tokens."""
    tokens = keras.Input((SEQUENCE,), dtype="int32", name="tokens")
    x = layers.Embedding(VOCABULARY, 512, dtype=dtype, name="embedding")(tokens)
    for block in range(8):
        y = layers.LayerNormalization(dtype=dtype, name=f"attention_norm_{block}")(x)
        attention = layers.MultiHeadAttention(8, 64, dtype=dtype, name=f"attention_{block}")
        x = layers.Add(dtype=dtype, name=f"attention_sum_{block}")([x, attention(y, y)])
        y = layers.LayerNormalization(dtype=dtype, name=f"mlp_norm_{block}")(x)
        y = layers.Dense(2048, "gelu", dtype=dtype, name=f"mlp_in_{block}")(y)
        y = layers.Dense(512, dtype=dtype, name=f"mlp_out_{block}")(y)
        x = layers.Add(dtype=dtype, name=f"mlp_sum_{block}")([x, y])
    # Logits in float32: half precision would round the loss.
    logits = layers.Dense(VOCABULARY, dtype="float32", name="logits")(x)
    model = keras.Model(tokens, logits, name="transformer")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-4), loss, jit_compile=False)
    sequences = np.zeros((batch_size, SEQUENCE), "int32")
    return model, (sequences, sequences)


def transformer_bfloat16() -> tuple[keras.Model, Any]:
    """The same with bfloat16 arithmetic and float32 weights."""
    return transformer(dtype="mixed_bfloat16")


def transformer_large_batch() -> tuple[keras.Model, Any]:
    """The same with 512 sequences: their logits alone take 21 GB, and a v5e has 16."""
    return transformer(batch_size=512)
