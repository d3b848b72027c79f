"""Models with enough layers for four stages, and with matrices that two devices can share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tests.parity.configuration import Configuration
from tests.parity.examples import FEATURES, IMAGE, OUTPUTS, TIME, VOCABULARY

layers, ops = keras.layers, keras.ops


class AddsMean(keras.Layer):
    """Adds the mean of squares over rows to the loss."""

    def call(self, x: Any) -> Any:
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return x


def _deep() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(8, "tanh", kernel_regularizer=keras.regularizers.L2(0.01), name="up_a"),
            layers.Dense(6, "gelu", name="down_a"),
            layers.LayerNormalization(),
            layers.Dense(10, "silu", name="up_b"),
            layers.Dense(6, kernel_regularizer=keras.regularizers.L1(0.001), name="down_b"),
            layers.LayerNormalization(),
            layers.Dense(8, "tanh", use_bias=False, name="up_c"),
            layers.Dense(5, "elu", name="down_c"),
            layers.Dense(OUTPUTS, kernel_constraint=keras.constraints.MaxNorm(1.0), name="head"),
        ]
    )


def _skipping() -> keras.Model:
    """Results that are used several stages later, a layer used twice, and losses of layers."""
    inputs = keras.Input((FEATURES,))
    first = layers.Dense(6, "tanh", activity_regularizer="l2", name="first")(inputs)
    twice = layers.Dense(6, "tanh", name="twice")
    second = twice(twice(first) + inputs)
    hidden = layers.Dense(8, "gelu", name="up_a")(second)
    hidden = layers.Dense(6, name="down_a")(hidden)
    hidden = AddsMean()(layers.LayerNormalization()(hidden + first))
    hidden = layers.Concatenate()([hidden, second, inputs])
    hidden = layers.Dense(8, "tanh", name="up_b")(hidden)
    hidden = layers.Dense(6, "tanh", name="down_b")(hidden)
    return keras.Model(inputs, layers.Dense(OUTPUTS, name="head")(hidden * first))


def _two_blocks() -> keras.Model:
    """A transformer over tokens with a mask."""
    tokens = keras.Input((TIME,), dtype="int32")
    x = layers.Embedding(VOCABULARY, 8, mask_zero=True, name="embedding")(tokens)
    for block in "ab":
        normed = layers.LayerNormalization()(x)
        # Without biases: see `_attention` of the zoo.
        attention = layers.MultiHeadAttention(2, 3, use_bias=False, name=f"attention_{block}")
        x = x + attention(normed, normed)
        inner = layers.Dense(12, "gelu", name=f"up_{block}")(layers.LayerNormalization()(x))
        x = x + layers.Dense(8, name=f"down_{block}")(inner)
    pooled = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, layers.Dense(OUTPUTS, name="head")(pooled))


def _deep_cnn(is_normalized: bool = False) -> keras.Model:
    def normalized() -> list[keras.Layer]:
        return [layers.BatchNormalization(synchronized=True)] if is_normalized else []

    return keras.Sequential(
        [
            keras.Input((IMAGE, IMAGE, 1)),
            layers.Conv2D(4, 3, use_bias=False),
            *normalized(),
            layers.ReLU(),
            layers.Conv2D(4, 3, padding="same"),
            layers.Conv2D(6, 1, activation="tanh"),
            *normalized(),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(8, "tanh", name="up_a"),
            layers.Dense(6, "tanh", name="down_a"),
            layers.Dense(OUTPUTS),
        ]
    )


def _of(build: Callable[[], keras.Model]) -> Callable[[Configuration], keras.Model]:
    return lambda _: build()


BUILDERS: dict[str, Callable[[Configuration], keras.Model]] = {
    "deep": _of(_deep),
    "skipping": _of(_skipping),
    "two_blocks": _of(_two_blocks),
    "deep_cnn": _of(_deep_cnn),
    "deep_batchnorm": _of(lambda: _deep_cnn(is_normalized=True)),
}
