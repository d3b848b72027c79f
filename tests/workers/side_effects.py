"""Cases of the side effects of training: what it prints, and which random numbers it draws."""

from __future__ import annotations

import contextlib
import io
import random
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.workers.job import Found
from tests.workers.small_models import numbers, regression, rows


class Warns(keras.callbacks.Callback):
    """Prints and warns as a user's callback does, on every worker."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        print("own line")
        warnings.warn("own warning", UserWarning, stacklevel=1)


def printed(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """What `fit` prints and warns of with callbacks that print a lot."""
    model, (x, y) = regression(strategy), rows()
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate, verbose=1),
        keras.callbacks.EarlyStopping("no such metric", mode="min"),
        Warns(),
    ]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for verbose in (1, 2):
            data = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
            model.fit(data, verbose=verbose, epochs=1, steps_per_epoch=9, callbacks=callbacks)
        model.evaluate(x, y, verbose=2)
        model.predict(x, verbose=2)
        print("after")
    return {"lines": out.getvalue().splitlines(), "warned": [str(one.message) for one in warned]}


def drawn(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """The next number of each random state after a training, and weights made after it.

    Runs on one device too, for comparison.
    """
    keras.utils.set_random_seed(11)
    model = regression(strategy)
    model.fit(*rows(), batch_size=5, epochs=2, verbose=0)
    model.evaluate(*rows(), verbose=0)
    found: Found = {
        "random": random.random(),
        "numpy": float(np.random.rand()),
        "tensorflow": float(tf.random.uniform([])),
    }
    with strategy.scope():
        found["weights"] = numbers(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
    return found


def kept(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Random states before and after a training whose workers have different seeds."""
    keras.utils.set_random_seed(100 + index)
    model = regression(strategy)
    states = [(random.getstate(), _numpy_state())]
    model.fit(*rows(), batch_size=5, verbose=0)
    states.append((random.getstate(), _numpy_state()))
    return {"same": states[0] == states[1]}


def _numpy_state() -> list[int]:
    state = np.random.get_state(legacy=True)
    assert isinstance(state, tuple)
    return list(state[1].tolist())


CASES = (printed, drawn, kept)
