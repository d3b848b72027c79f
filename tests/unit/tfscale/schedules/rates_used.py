"""Trains with schedules and writes the rate of each step, for test_rates_used.py.

Usage: python rates_used.py KIND OUTPUT, where KIND is "mirrored" for 2 replicas and, beside them,
no strategy at all, or "workers" for one of several workers started by `tfscale launch`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale

STEPS_PER_EPOCH = 3
EPOCHS = 8


class Rates(keras.callbacks.Callback):
    """Keeps, for each step, the rate a user would log and the rate that moved the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[float] = []
        self.used: list[float] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.weight = self._weight()

    def _weight(self) -> float:
        return float(self.model.layers[0].kernel.numpy()[0, 0])

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.logged.append(float(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        weight = self._weight()
        self.used.append(self.weight - weight)
        self.weight = weight


def output(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """A loss whose gradient is 1, so that SGD moves the weight by the rate."""
    return outputs[:, 0]


def cosine() -> Any:
    """Keras's own, made of Python's floats: by itself it computes in float32."""
    return keras.optimizers.schedules.CosineDecay(0.1, 20, alpha=0.1)


def schedules() -> dict[str, Callable[[], Any]]:
    """Builders of the schedules that test_rates_used.py knows by name."""
    return {
        "warmup": lambda: tfscale.schedules.warmup(cosine(), 4),
        "join": lambda: tfscale.schedules.join(
            [0.3, tfscale.schedules.inverse_square_root_decay(0.1, 5)], [7]
        ),
        "adjustable": lambda: tfscale.schedules.adjustable(cosine()),
    }


def _unchanged(schedule: Any) -> Any:
    return schedule


def train(strategy: tf.distribute.Strategy | None, build: Callable[[], Any]) -> Any:
    """Trains for 24 steps with the schedule that `build` returns in the scope."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        schedule = build()
        optimizer = keras.optimizers.SGD(schedule)
        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((1,)), layer])
        model.compile(optimizer, output)
    # The loss always falls, so a watch that wants it to rise sees a plateau.
    plateau = tfscale.callbacks.ReduceOnPlateau(
        "loss", factor=0.5, patience=2, mode="max", cooldown=1, min_factor=0.25
    )
    rates, rows = Rates(), np.ones([2 * STEPS_PER_EPOCH, 1])
    watches = [plateau] if isinstance(schedule, tfscale.schedules.Adjustable) else []
    history = model.fit(
        rows, rows, batch_size=2, epochs=EPOCHS, verbose=0, callbacks=[*watches, rates]
    )
    return {
        "logged": rates.logged,
        "used": rates.used,
        "factors": history.history.get("learning_rate_factor"),
    }


def main(kind: str, path: str) -> None:
    """Writes what one process saw."""
    if kind == "mirrored":
        tried = {"mirrored": strategies.mirrored_strategy(2), "plain": None}
    else:
        workers = strategies.multi_worker_mirrored_strategy()
        path = f"{path}.{workers.cluster_resolver.task_id}"
        tried = {"workers": workers}
    tfscale.set_precision("float64")
    found: dict[str, Any] = {}
    for name, strategy in tried.items():
        found[name] = {key: train(strategy, build) for key, build in schedules().items()}
        outside = tfscale.schedules.adjustable(cosine())
        found[name]["adjustable outside"] = train(strategy, functools.partial(_unchanged, outside))
    Path(path).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
