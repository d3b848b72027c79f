"""A small image network that trains for eight bits, on any strategy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.unit.strategies.keras_support.beside_one_device import Found, found
from tfscale.shrink import quantization_aware

_DRAW = np.random.default_rng(7)
IMAGES, LABELS = _DRAW.normal(size=[22, 6, 6, 2]), _DRAW.normal(size=[22, 3])
LAYERS = keras.layers


def network(*, synchronized: bool = True) -> keras.Model:
    inputs = keras.Input([6, 6, 2])
    x = LAYERS.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = LAYERS.BatchNormalization(synchronized=synchronized)(x)
    x = LAYERS.ReLU()(x)
    y = LAYERS.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = LAYERS.Flatten()(LAYERS.MaxPooling2D()(LAYERS.Add()([x, y])))
    return keras.Model(inputs, LAYERS.Dense(3)(x))


def aware_network(
    strategy: tf.distribute.Strategy, *, optimizer: Any = None, **compiling: Any
) -> keras.Model:
    """The network, to be trained for eight bits; `optimizer` are arguments of Adam."""
    with strategy.scope():
        model = quantization_aware(network(), calibration=IMAGES, momentum=0.7)
        model.compile(keras.optimizers.Adam(1e-2, **(optimizer or {})), "mse", **compiling)
    return model


def fitted(model: keras.Model, batch_size: int, *callbacks: Any, epochs: int = 2) -> Any:
    """Trains it and returns the history."""
    given = {"batch_size": batch_size, "epochs": epochs, "shuffle": False, "verbose": 0}
    return model.fit(IMAGES, LABELS, callbacks=[*callbacks], **given)


def averages_of(model: keras.Model) -> Found:
    """The moving averages of weights that Keras keeps."""
    return {v.path: v.numpy() for v in model.optimizer.variables if "average" in v.path}


def trained(strategy: tf.distribute.Strategy, batch_size: int, **arguments: Any) -> Found:
    """Weights, ranges, moving averages, losses and predictions after two epochs."""
    model = aware_network(strategy, **arguments)
    history = fitted(model, batch_size)
    predictions = model.predict(IMAGES, verbose=0)
    return found(model, history, predictions=predictions, **averages_of(model))
