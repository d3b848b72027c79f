"""Models whose layers are divided over the devices of a replica, beside stock Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.language.model import language_model
from recipes.language.sizes import ModelSize
from strategies.extension import all_layers, whole_weights
from tests.unit.strategies.keras_support.beside_one_device import Found, Program
from tfscale.parallel import TRANSFORMER, TensorRule, tensor_parallel

LAYERS = keras.layers
DRAW = np.random.default_rng(4)
ROWS = 44
X, Y = DRAW.normal(size=(ROWS, 6)), DRAW.normal(size=(ROWS, 3))
TOKENS = DRAW.integers(0, 11, size=(ROWS, 5)).astype("int32")
IMAGES = DRAW.normal(size=(ROWS, 6, 6, 2))
Made = tuple[keras.Model, np.ndarray, list[TensorRule]]


def pair() -> Made:
    """A column layer, and a row layer that takes its parts."""
    layers = [
        keras.Input((6,)),
        LAYERS.Dense(8, "tanh", kernel_regularizer="l2", name="up"),
        LAYERS.Dense(5, "tanh", name="down"),
        LAYERS.Dense(3),
    ]
    rules = [TensorRule(".*/up", "column"), TensorRule(".*/down", "row")]
    return keras.Sequential(layers, name="pair"), X, rules


def apart() -> Made:
    """Dropout between the two, on whole activations, and a row layer without a column layer."""
    layers = [
        keras.Input((6,)),
        LAYERS.Dense(4, "relu", name="first"),
        LAYERS.Dense(8, "gelu", name="up"),
        LAYERS.BatchNormalization(synchronized=True),
        LAYERS.Dense(3, use_bias=False, name="down"),
    ]
    kinds = {"first": "row", "up": "column", "down": "row"}
    rules = [TensorRule(f".*/{name}", kind) for name, kind in kinds.items()]
    return keras.Sequential(layers, name="apart"), X, rules


def attention() -> Made:
    """Heads of Keras's attention under a mask, an embedding, and an EinsumDense of each kind."""
    tokens = keras.Input((5,), dtype="int32")
    states = LAYERS.Embedding(11, 8, mask_zero=True, name="table")(tokens)
    attended = LAYERS.MultiHeadAttention(4, 2, name="attention")(
        states, states, use_causal_mask=True
    )
    states = LAYERS.LayerNormalization()(states + attended)
    hidden = LAYERS.EinsumDense(
        "abc,cd->abd", (None, 12), bias_axes="d", activation="relu", name="up"
    )(states)
    states = states + LAYERS.EinsumDense("...c,cd->...d", (8,), bias_axes="d", name="down")(hidden)
    outputs = LAYERS.Dense(3)(LAYERS.Flatten()(states))
    rules = [
        TensorRule(".*/attention/(query|key|value)|attention/(query|key|value)", "column"),
        TensorRule("(.*/)?attention/attention_output", "row"),
        TensorRule("(.*/)?table", "vocabulary"),
        TensorRule("(.*/)?up", "column"),
        TensorRule("(.*/)?down", "row"),
    ]
    return keras.Model(tokens, outputs, name="attention_model"), TOKENS, rules


def convolutions() -> Made:
    """A convolution that is not divided, under a head that is."""
    layers = [
        keras.Input((6, 6, 2)),
        LAYERS.Conv2D(4, 3, use_bias=False),
        LAYERS.BatchNormalization(synchronized=True),
        LAYERS.ReLU(),
        LAYERS.Flatten(),
        LAYERS.Dense(8, "relu", name="up"),
        LAYERS.Dense(3, name="down"),
    ]
    rules = [TensorRule(".*/up", "column"), TensorRule(".*/down", "row")]
    return keras.Sequential(layers, name="convolutions"), IMAGES, rules


def transformer() -> Made:
    """The model of the recipe, with a loss on its logits."""
    size = ModelSize(layers=1, width=16, heads=4)
    with_ids = language_model(size, num_tokens=11, seed=3)
    tokens = keras.Input((5,), dtype="int32")
    places = keras.ops.zeros_like(tokens) + keras.ops.arange(5, dtype="int32")
    segments = keras.ops.zeros_like(tokens)
    logits = with_ids({"tokens": tokens, "positions": places, "segment_ids": segments})
    model = keras.Model(tokens, keras.layers.Flatten()(logits)[:, -3:])
    return model, TOKENS, list(TRANSFORMER)


def clipped_adam() -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(0.01, global_clipnorm=0.1)


def accumulating() -> keras.optimizers.Optimizer:
    return keras.optimizers.AdamW(
        0.01, gradient_accumulation_steps=2, use_ema=True, ema_momentum=0.8, global_clipnorm=0.5
    )


def momentum() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.05, momentum=0.9, clipvalue=0.3)


def whole_arrays(model: keras.Model) -> list[np.ndarray[Any, Any]]:
    """Returns the weights of a model with whole matrices, whether it is divided or not."""
    with whole_weights(all_layers(model)):
        return list(model.get_weights())


def trained(
    make: Callable[[], Made],
    optimizer: Callable[[], Any],
    *,
    epochs: int = 6,
    batch_size: int = 9,
    callbacks: Callable[[], list[Any]] = list,
    prepared: Callable[[Any], Any] = lambda model: None,
    kept: list[Any] | None = None,
) -> Program:
    """Returns a program that trains a model, divided if replicas have several devices.

    Args:
        make: Builds the model.
        optimizer: Makes the optimizer.
        epochs: Of 5 steps.
        batch_size: Rows of a step; the last one of an epoch has fewer.
        callbacks: Of `fit`, under our strategies.
        prepared: Is called with the model before it is compiled, under our strategies.
        kept: Gets the models.
    """

    def program(strategy: tf.distribute.Strategy) -> Found:
        is_ours = isinstance(strategy, tf.distribute.MirroredStrategy)
        with strategy.scope():
            model, x, rules = make()
            if is_ours:
                tensor_parallel(model, rules)
                prepared(model)
            model.compile(optimizer(), "mse", metrics=["mae"])
        history = model.fit(
            x,
            Y,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=False,
            verbose=0,
            callbacks=callbacks() if is_ours else [],
        )
        if kept is not None:
            kept.append(model)
        shown = {f"weight {i}": array for i, array in enumerate(whole_arrays(model))}
        shown |= {f"history of {name}": np.array(v) for name, v in history.history.items()}
        shown["predictions"] = model.predict(x[:5], verbose=0)
        return shown

    return program
