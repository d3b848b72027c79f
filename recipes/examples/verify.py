"""Compares your model under a strategy with one device: write a function like this one.

tfscale verify recipes.examples.verify:build --num_replicas=2
"""

import keras
import numpy as np


def build():
    """Returns a compiled model, a new one at each call, and the data for `fit`."""
    model = keras.Sequential(
        [
            keras.layers.Dense(32, "relu"),
            keras.layers.BatchNormalization(synchronized=True),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01, clipnorm=0.1), "mse", metrics=["mae"])
    x = np.random.default_rng(seed=0).normal(size=(500, 8))
    return model, (x, x.sum(axis=1))
