"""Cases in which a step or a metric needs the whole batch, compared with one device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfscale
from strategies.keras_support.context import packs
from tests.unit.strategies.keras_support.beside_one_device import X, Y
from tests.unit.strategies.keras_support.gradients.recomputed_models import MODELS
from tests.unit.strategies.keras_support.steps_over_replicas import STEPS, trained
from tests.workers.job import Found


def own_steps(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    found: Found = {}
    for step in STEPS:
        keras.utils.clear_session()
        keras.utils.set_random_seed(11)
        shown = trained(strategy, step, 7)
        found[step.__name__] = {name: np.ravel(value).tolist() for name, value in shown.items()}
    return found


class Largest(keras.metrics.Metric):
    """A maximum, whose result is the variable."""

    def __init__(self) -> None:
        super().__init__(name="largest")
        self.largest = self.add_variable((), keras.initializers.Constant(-9.0), name="largest")

    def reset_state(self) -> None:
        self.largest.assign(-9.0)

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        self.largest.assign(keras.ops.maximum(self.largest, keras.ops.max(y)))

    def result(self) -> Any:
        return self.largest.value


def own_metric(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.01), "mse", metrics=[Largest()])
    history = model.fit(X, -np.abs(Y), batch_size=7, shuffle=False, verbose=0).history
    evaluated = model.evaluate(X[:5], -np.abs(Y[:5]), batch_size=4, verbose=0)
    return {"trained": history["largest"], "evaluated": evaluated[1]}


def recomputed(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    found: Found = {}
    for name in ("transformer", "convolutions"):
        keras.utils.clear_session()
        keras.utils.set_random_seed(11)
        with strategy.scope():
            model, x, y = MODELS[name](0.0)
            if strategy.num_replicas_in_sync > 1:
                tfscale.recompute(model, r"block_\d")
        model.fit(x, y, batch_size=5, epochs=5, shuffle=False, verbose=0)
        found[name] = [np.ravel(weight).tolist() for weight in model.get_weights()]
    return found


def small_packs(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Two dtypes, an empty replica at the end of an epoch, and most gradients in their own pack."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(11)
    with strategy.scope():
        layers = [keras.layers.Dense(4, "tanh", dtype=d) for d in ("float64", "float32", "float64")]
        model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    kept, packs.PACK_BYTES = packs.PACK_BYTES, 40
    try:
        model.fit(X[:22], Y[:22], batch_size=7, epochs=3, shuffle=False, verbose=0)
    finally:
        packs.PACK_BYTES = kept
    return {"weights": [np.ravel(weight).tolist() for weight in model.get_weights()]}


CASES = (own_steps, own_metric, small_packs)
