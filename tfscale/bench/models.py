"""The built-in models of `tfscale bench`: four sizes of a training step.

A step of `tiny_mlp` is dominated by overhead, a step of `mlp` by its gradients (2.7 MB), steps of
`cnn` and `transformer` by arithmetic. All are compiled without XLA. Keras's "auto" enables XLA for
one device and not for several replicas, and on CPUs XLA makes convolutions two to three times
slower, so that the benchmark would compare compilers and not strategies.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BATCHES = 8
"""Batches that are kept in memory and reused."""


@dataclass(frozen=True)
class NamedModel:
    """A model and its data.

    Attributes:
        text: A short description.
        batch_size: Rows of a batch on one device.
        steps: Steps of a turn, enough to be timed.
        compiled: Builds the compiled model.
        examples: Returns the given number of rows `(x, y)`, the same at every call.
        parameters: Number of trainable parameters, all float32.
    """

    text: str
    batch_size: int
    steps: int
    compiled: Callable[[], Any]
    examples: Callable[[int], tuple[Any, Any]]
    parameters: int


def _compile(parts: list[Any], loss: str) -> Any:
    import keras

    model = keras.Sequential(parts)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    return model


def _tiny_mlp() -> Any:
    from keras import Input, layers

    return _compile([Input((8,)), layers.Dense(8, "relu"), layers.Dense(4)], "mse")


def _mlp() -> Any:
    from keras import Input, layers

    hidden = [layers.Dense(512, "relu"), layers.Dense(512, "relu")]
    parts = [Input((784,)), *hidden, layers.Dense(10, "softmax")]
    return _compile(parts, "sparse_categorical_crossentropy")


def _cnn() -> Any:
    from keras import Input, layers

    parts = [
        Input((32, 32, 3)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(10, "softmax"),
    ]
    return _compile(parts, "sparse_categorical_crossentropy")


def _transformer() -> Any:
    import keras
    from keras import layers

    tokens = keras.Input((128,), dtype="int32")
    x = layers.Embedding(1000, 128)(tokens)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, 32)(y, y)
        y = layers.Dense(512, "relu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(128)(y)
    outputs = layers.Dense(10, "softmax")(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(tokens, outputs)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", jit_compile=False)
    return model


def _drawn(shape: tuple[int, ...], count: int, classes: int) -> tuple[Any, Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, *shape)).astype("float32")
    return x, generator.integers(classes, size=(count,)).astype("int32")


def _numbers(count: int) -> tuple[Any, Any]:
    x, _ = _drawn((8,), count, 1)
    return x, x[:, :4] - x[:, 4:]


def _sentences(count: int) -> tuple[Any, Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    x = generator.integers(1000, size=(count, 128)).astype("int32")
    return x, (x[:, 0] % 10).astype("int32")


MODELS = {
    "tiny_mlp": NamedModel("MLP 8-8-4", 8, 500, _tiny_mlp, _numbers, 108),
    "mlp": NamedModel(
        "MLP 784-512-512-10", 128, 100, _mlp, lambda n: _drawn((784,), n, 10), 669_706
    ),
    "cnn": NamedModel("CNN 32x32x3", 64, 40, _cnn, lambda n: _drawn((32, 32, 3), n, 10), 42_442),
    "transformer": NamedModel(
        "transformer d=128, sequence 128", 16, 15, _transformer, _sentences, 525_834
    ),
}

SIZED_BATCH = 48
"""Rows of a global batch of an MLP of a given size; 2, 3, 4 and 8 replicas divide it."""
SIZED = re.compile(r"mlp_(\d+)")
"""Names of MLPs of a given size."""


def model_named(name: str) -> NamedModel:
    """Returns a built-in model.

    Args:
        name: A name of `MODELS`, or `mlp_N` for an MLP of about N parameters.

    Example:
        >>> model_named("mlp_1000000").text
        'MLP 64-963-963-10'
    """
    match = SIZED.fullmatch(name)
    if match is None:
        return MODELS[name]
    width = width_of(int(match[1]))
    return NamedModel(
        text=f"MLP 64-{width}-{width}-10",
        batch_size=SIZED_BATCH,
        steps=50,
        compiled=functools.partial(_sized_mlp, width),
        examples=lambda count: _drawn((64,), count, 10),
        parameters=width**2 + 76 * width + 10,
    )


def width_of(parameters: int) -> int:
    """Returns the width w of the MLP 64-w-w-10 that has about this many parameters.

    It has 65 w + w (w + 1) + 10 (w + 1) = w^2 + 76 w + 10 parameters.

    Args:
        parameters: At least 100.

    Example:
        >>> width_of(1_000_000)
        963
    """
    return max(1, round(math.sqrt(38**2 + parameters - 10) - 38))


def _sized_mlp(width: int) -> Any:
    from keras import Input, layers

    hidden = [layers.Dense(width, "relu"), layers.Dense(width, "relu")]
    parts = [Input((64,)), *hidden, layers.Dense(10, "softmax")]
    return _compile(parts, "sparse_categorical_crossentropy")
