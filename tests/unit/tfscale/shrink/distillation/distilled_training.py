"""A student that learns from two teachers and their features, on any strategy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.unit.strategies.keras_support.beside_one_device import Found, found
from tfscale.shrink import Distill, FeaturePair

DRAW = np.random.default_rng(5)
X, CLASSES = DRAW.normal(size=[22, 6]), DRAW.integers(0, 3, size=22)
LAYERS = keras.layers


def network(width: int, seed: int, **last: Any) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input([6])
    x = LAYERS.Dense(width, "tanh", name="inner", kernel_regularizer="l2")(inputs)
    x = LAYERS.BatchNormalization(synchronized=True)(LAYERS.Dropout(0.0)(x))
    return keras.Model(inputs, LAYERS.Dense(3, name="logits", **last)(x))


TEACHERS = [(9, 1), (5, 2)]
PAIRS = [FeaturePair("inner", "inner", 0.3), FeaturePair("inner", "logits", 0.2, teacher_index=1)]


def trained(
    strategy: tf.distribute.Strategy, batch_size: int = 8, weighted: bool = False, **options: Any
) -> Found:
    teachers = [network(*each) for each in TEACHERS]  # outside of the scope
    with strategy.scope():
        options = {"features": PAIRS, "teacher_weights": [1, 3], "temperature": 3.0, **options}
        model = Distill(network(5, 3), teachers, **options)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=0.5), loss, metrics=["accuracy"])
    weights = np.linspace(0, 2, 22) if weighted else None
    history = model.fit(
        X, CLASSES, batch_size, epochs=2, sample_weight=weights, shuffle=False, verbose=0
    )
    evaluated = model.evaluate(X, CLASSES, batch_size=batch_size, verbose=0)
    return found(model, history, evaluated=evaluated)
