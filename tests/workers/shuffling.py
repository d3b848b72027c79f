"""Cases in which workers train on shuffled data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.workers.job import Found
from tests.workers.small_models import ROWS, counter, numbers, regression, rows, visits


class Visits(keras.callbacks.Callback):
    """Records, after each epoch, how often each example has been trained on so far."""

    def __init__(self) -> None:
        super().__init__()
        self.after: list[list[float]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.after.append(visits(self.model))


def _visited(strategy: tf.distribute.Strategy, **arguments: Any) -> Found:
    model, watch = counter(strategy, ROWS), Visits()
    x, y = np.arange(ROWS)[:, None], np.full([ROWS, 1], 1e3)
    model.fit(x, y, batch_size=5, epochs=2, callbacks=[watch], verbose=0, **arguments)
    return {"visits": watch.after}


def unseeded(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    return _visited(strategy)


def seeded_differently(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    keras.utils.set_random_seed(100 + index)
    return _visited(strategy)


def seeded_alike(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Runs on one device too, for comparison."""
    keras.utils.set_random_seed(5)
    model = regression(strategy)
    model.fit(*rows(), batch_size=5, epochs=3, verbose=0)
    return {"weights": numbers(model)}


def shuffled_dataset(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Runs on one device too. Stock Keras makes one more iterator per epoch, which counts."""
    model = regression(strategy)
    tf.random.set_seed(None)
    shuffled = tf.data.Dataset.from_tensor_slices(rows()).shuffle(ROWS, seed=8)
    model.fit(shuffled.batch(5), epochs=3, verbose=0)
    return {"weights": numbers(model)}


CASES = (unseeded, seeded_differently, seeded_alike, shuffled_dataset)
