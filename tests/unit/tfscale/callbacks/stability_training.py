"""Trains with planted trouble and writes the results, for test_stability.py.

Usage: python stability_training.py KIND OUTPUT, where KIND is "mirrored" for 2 replicas, one device
and, beside them, stock Keras without the bad batches, or "workers" for one of several workers.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale

BATCH = 4
BATCHES = 12
LIMITS: dict[str, Any] = {"factor": 10.0, "window": 8, "warmup_steps": 4}
RATE = 0.05
EXECUTIONS = ["skip in execution", "roll back in execution"]


class Recorder(keras.callbacks.Callback):
    """Keeps the bytes of every copy of every variable but the rate, after each execution."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        super().__init__()
        self.strategy = strategy
        self.states: list[str] = []
        self.rates: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        variables = [*self.model.variables, *self.model.optimizer.variables]
        copies = [
            copy.numpy().tobytes().hex()
            for variable in variables
            if not variable.path.endswith("learning_rate")
            for copy in self.strategy.experimental_local_results(variable.value)
        ]
        self.states.append(",".join(copies))
        rate = self.model.optimizer.learning_rate
        self.rates.append(float(getattr(rate, "value", rate).numpy()))


def data(nan: Sequence[int] = (), spike: Sequence[int] = (), removed: Sequence[int] = ()) -> Any:
    """Batches with one bad row in some, the last of the batch, or without those batches."""
    draw = np.random.default_rng(5)
    x = draw.normal(size=[BATCHES, BATCH, 3])
    y = x.sum(axis=2, keepdims=True) + draw.normal(size=[BATCHES, BATCH, 1])
    x[list(nan), -1] = np.nan
    y[list(spike), -1] = 1e6
    kept = [i for i in range(BATCHES) if i not in removed]
    return x[kept].reshape([-1, 3]), y[kept].reshape([-1, 1])


def model(strategy: tf.distribute.Strategy | None, optimizer: str, steps: int = 1) -> Any:
    """The same model each time: statistics that move, slots, clipping, an average of weights."""
    rate = tfscale.schedules.adjustable(keras.optimizers.schedules.CosineDecay(RATE, 40))
    with strategy.scope() if strategy else contextlib.nullcontext():
        made = keras.Sequential(
            [
                keras.Input((3,)),
                # No bias: BatchNormalization takes it out, and Adam makes steps of its rounding.
                keras.layers.Dense(
                    4, use_bias=False, kernel_initializer=keras.initializers.GlorotNormal(1)
                ),
                keras.layers.BatchNormalization(synchronized=True, momentum=0.5),
                keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotNormal(2)),
            ]
        )
        chosen = {
            "adam": lambda: keras.optimizers.Adam(RATE, global_clipnorm=1.0, use_ema=True),
            "accumulating": lambda: keras.optimizers.SGD(
                RATE, momentum=0.9, gradient_accumulation_steps=2
            ),
            "scheduled": lambda: keras.optimizers.SGD(rate, momentum=0.9),
        }[optimizer]()
        made.compile(chosen, "mse", metrics=["mae"], steps_per_execution=steps)
    return made


def trained(
    strategy: tf.distribute.Strategy | None,
    rows: Any,
    watch: tfscale.callbacks.Stability | None = None,
    optimizer: str = "adam",
    steps: int = 1,
) -> dict[str, Any]:
    """Trains an epoch and returns all that can be compared."""
    made = model(strategy, optimizer, steps)
    recorders = [Recorder(strategy)] if strategy else []
    history = made.fit(
        *rows,
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        callbacks=[*([watch] if watch else []), *recorders],
    ).history
    variables = [*made.variables, *made.optimizer.variables]
    return {
        "variables": [np.asarray(v.value.numpy(), np.float64).ravel().tolist() for v in variables],
        "history": {name: values[0] for name, values in history.items()},
        "states": recorders[0].states if recorders else [],
        "rates": recorders[0].rates if recorders else [],
        "events": [list(vars(event).values()) for event in watch.events] if watch else [],
    }


def watched(strategy: tf.distribute.Strategy, names: Sequence[str]) -> dict[str, Any]:
    """The named cases under `strategy`."""
    stability = tfscale.callbacks.Stability
    rolling: dict[str, Any] = {"on_trouble": "roll_back", **LIMITS}
    mixed, two_nans = data(nan=[0, 5], spike=[7]), data(nan=[7, 10])
    cases: dict[str, Callable[[], Any]] = {
        "skip": lambda: trained(strategy, mixed, stability(**LIMITS)),
        "skip in execution": lambda: trained(strategy, mixed, stability(**LIMITS), steps=4),
        "accumulating": lambda: trained(
            strategy, data(nan=[4, 7]), stability(**LIMITS), "accumulating"
        ),
        "stop": lambda: trained(strategy, data(spike=[7]), stability(on_trouble="stop", **LIMITS)),
        "roll back": lambda: trained(
            strategy, two_nans, stability(max_rollbacks=1, keep_every=3, **rolling)
        ),
        "twice": lambda: trained(strategy, two_nans, stability(**rolling), "scheduled"),
        "roll back in execution": lambda: trained(
            strategy, data(nan=[4, 7]), stability(**rolling), steps=3
        ),
    }
    return {name: cases[name]() for name in names}


def stock() -> dict[str, Any]:
    """What Keras itself makes of the data without the bad batches."""
    skipped = trained(None, data(removed=[0, 5, 7]))
    return {
        "skip": skipped,
        "skip in execution": skipped,
        "accumulating": trained(None, data(removed=[4, 7]), optimizer="accumulating"),
        "stop": trained(None, data(removed=range(7, BATCHES))),
    }


def main(kind: str, path: str) -> None:
    """Writes what one process saw."""
    if kind == "workers":
        workers = strategies.multi_worker_mirrored_strategy()
        path = f"{path}.{workers.cluster_resolver.task_id}"
        keras.config.set_floatx("float64")
        found = watched(workers, ["stop", "roll back"])
    else:
        mirrored, alone = strategies.mirrored_strategy(2), strategies.one_device_strategy("CPU:0")
        keras.config.set_floatx("float64")
        found = {
            "stock": stock(),
            "mirrored": watched(mirrored, ["accumulating", *EXECUTIONS, "roll back", "twice"]),
            "alone": watched(alone, ["skip", "stop"]),
        }
    Path(path).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
