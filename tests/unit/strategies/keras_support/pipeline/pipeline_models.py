"""Models that are trained as pipelines, in a given floating-point type, and data for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

DRAW = np.random.default_rng(7)
FEATURES = DRAW.normal(size=(40, 6))
NUMBERS = DRAW.normal(size=(40, 1))
IMAGES = DRAW.normal(size=(40, 6, 6, 1))
CLASSES = DRAW.integers(0, 3, size=40)
TOKENS = DRAW.integers(1, 12, size=(40, 5)) * (DRAW.random((40, 5)) > 0.3)
NEXT = DRAW.integers(0, 12, size=(40, 5))
layers = keras.layers


class AddsLoss(keras.layers.Layer):
    """Adds the mean of squares to the losses."""

    def call(self, x: Any) -> Any:
        self.add_loss(0.1 * tf.reduce_mean(tf.square(x)))
        return x


def skips() -> Any:
    """Two inputs, two outputs; skip connections over cuts; a layer used twice; losses of layers."""
    a, b = keras.Input([4], name="a"), keras.Input([2], name="b")
    twice = layers.Dense(5, "tanh", kernel_regularizer="l2", name="twice")
    first = twice(a) + twice(layers.Dense(4, name="widen")(b))
    hidden = layers.Dense(5, "tanh", activity_regularizer="l2", name="second")(first)
    early = layers.Dense(1, name="early")(hidden)
    hidden = AddsLoss(name="adds_loss")(layers.Dense(5, "tanh", name="third")(hidden))
    joined = layers.Concatenate(name="joined")([hidden, first, b])
    late = layers.Dense(1, name="late")(layers.Dense(4, "tanh", name="fourth")(joined))
    return keras.Model([a, b], {"late": late, "early": early})


def compiled_skips() -> Any:
    model = skips()
    model.compile(
        keras.optimizers.Adam(
            0.02, global_clipnorm=0.3, gradient_accumulation_steps=2, use_ema=True
        ),
        {"late": "mse", "early": "mae"},
        loss_weights={"late": 1.0, "early": 0.5},
        metrics={"late": ["mae"]},
    )
    return model


def transformer() -> Any:
    """Two blocks over tokens with a mask; the loss divides by the tokens that count."""
    tokens = keras.Input([5], dtype="int32")
    x = layers.Embedding(12, 8, mask_zero=True, name="embedding")(tokens)
    for block in range(2):
        normed = layers.LayerNormalization(name=f"norm_a{block}")(x)
        x = layers.add(
            [x, layers.MultiHeadAttention(2, 4, name=f"attention{block}")(normed, normed)],
            name=f"sum_a{block}",
        )
        inner = layers.Dense(16, "gelu", name=f"up{block}")(
            layers.LayerNormalization(name=f"norm_b{block}")(x)
        )
        x = layers.add([x, layers.Dense(8, name=f"down{block}")(inner)], name=f"sum_b{block}")
    model = keras.Model(tokens, layers.Dense(12, name="head")(x))
    return _predicting_tokens(model, keras.optimizers.AdamW(0.01, clipnorm=0.5))


def shared() -> Any:
    """A tied embedding; one with two lookups; a layer with losses that every stage calls."""
    tokens = keras.Input([5], dtype="int32")
    tied = layers.ReversibleEmbedding(12, 8, mask_zero=True, name="tied")
    looked_up = layers.Embedding(12, 8, name="looked_up")
    mixer = layers.Dense(
        8, "tanh", kernel_regularizer="l2", activity_regularizer="l2", name="mixer"
    )
    x = mixer(layers.add([tied(tokens), looked_up(tokens)], name="sum_a"))
    x = mixer(AddsLoss(name="adds_loss")(layers.Dense(8, "gelu", name="first")(x)))
    x = mixer(layers.Dense(8, "gelu", name="second")(x))
    x = layers.add([layers.Dense(8, "gelu", name="third")(x), looked_up(tokens)], name="sum_b")
    x = layers.LayerNormalization(name="norm")(mixer(x))
    model = keras.Model(tokens, tied(x, reverse=True))
    return _predicting_tokens(model, keras.optimizers.AdamW(0.01, global_clipnorm=0.1))


def _predicting_tokens(model: Any, optimizer: Any) -> Any:
    """Compiles a model whose outputs are logits of tokens, of which some have no weight."""
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def convolution(normalized: bool = True) -> Any:
    """A convolutional network with BatchNormalization in both halves."""
    parts = []
    for name in ("a", "b"):
        parts.append(layers.Conv2D(4, 2, padding="same", name=f"conv_{name}"))
        if normalized:
            parts.append(layers.BatchNormalization(momentum=0.8, name=f"norm_{name}"))
        parts.append(layers.ReLU(name=f"relu_{name}"))
    model = keras.Sequential(
        [
            keras.Input([6, 6, 1]),
            *parts,
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(3, name="head"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


Case = tuple[Callable[[], Any], dict[str, Any], dict[int, list[str]]]

CASES: dict[str, Case] = {
    "skips": (
        compiled_skips,
        {
            "x": [FEATURES[:, :4], FEATURES[:, 4:]],
            "y": {"late": NUMBERS, "early": -NUMBERS},
            "sample_weight": {"late": np.linspace(0.2, 2, 40), "early": np.ones(40)},
        },
        {2: ["third"], 4: ["second", "third", "fourth"]},
    ),
    "transformer": (
        transformer,
        {"x": TOKENS, "y": NEXT},
        {2: ["norm_a1"], 4: ["norm_b0", "norm_a1", "norm_b1"]},
    ),
    "shared": (
        shared,
        {"x": TOKENS, "y": NEXT},
        {2: ["second"], 4: ["first", "second", "third"]},
    ),
    "convolution": (
        lambda: convolution(normalized=False),
        {"x": IMAGES, "y": CLASSES},
        {2: ["conv_b"], 4: ["relu_a", "conv_b", "pool"]},
    ),
}
"""By name: the model, what it is fitted to, and where 2 and 4 stages begin."""
