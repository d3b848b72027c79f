"""Trains, is interrupted and resumes, for test_checkpoint.py.

Usage: python checkpoint_training.py JOBS, where JOBS is a JSON list of jobs, done one after another
in this process. A job names its `kind` ("mirrored" with `replicas`, or "workers"), its `folder`, at
which batch it is interrupted (`stop`, or null), its `data`, and where to write what came of it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tfscale.schedules import adjustable_schedules

ROWS, BATCH, EPOCHS = 28, 6, 3  # 5 steps an epoch, the last of 4 rows
EVERY = 2


class Interruption(Exception):
    """Stands in for whatever ends a training."""


class Interrupting(keras.callbacks.Callback):
    """Raises when so many batches have been trained in this process."""

    def __init__(self, stop: int | None) -> None:
        super().__init__()
        self.stop = stop
        self.batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1
        if self.batches == self.stop:
            raise Interruption


def model(strategy: tf.distribute.Strategy, dropout: float) -> Any:
    rate = keras.optimizers.schedules.CosineDecay(0.05, 20, warmup_target=0.1, warmup_steps=4)
    with strategy.scope():
        made = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(5, activation="tanh"),
                keras.layers.Dropout(dropout),
                keras.layers.BatchNormalization(synchronized=True),
                keras.layers.Dense(1),
            ]
        )
        optimizer = keras.optimizers.Adam(
            tfscale.schedules.adjustable(rate), global_clipnorm=1.0, use_ema=True
        )
        made.compile(optimizer, "mse", metrics=["mae"])
    return made


def variables_of(made: Any) -> list[Any]:
    return [*made.variables, *made.optimizer.variables]


def source(job: dict[str, Any], strategy: tf.distribute.Strategy) -> dict[str, Any]:
    draw = np.random.default_rng(3)
    x = draw.normal(size=[ROWS, 3])
    y = x.sum(axis=1, keepdims=True) + draw.normal(size=[ROWS, 1])
    if job["data"] == "arrays":
        return {"x": x, "y": y, "batch_size": BATCH}
    if job["data"] == "dataset":
        # Another order in every epoch, which a new process must come to as well.
        return {"x": tf.data.Dataset.from_tensor_slices((x, y)).shuffle(ROWS, seed=4).batch(BATCH)}
    # 5 rows are uneven on two replicas and on three.
    size = 5 if job["data"] == "uneven pipeline" else BATCH
    return {"x": tfscale.data.input_pipeline((x, y), strategy, size, seed=5)}


def trained(job: dict[str, Any], made: Any) -> dict[str, Any]:
    strategy = made.distribute_strategy
    keras.utils.set_random_seed(7)
    data = source(job, strategy)
    draw = np.random.default_rng(9)
    validation = (draw.normal(size=[8, 3]), draw.normal(size=[8, 1]))
    keeps_best = job["data"] == "dataset"
    checkpoint = tfscale.callbacks.Checkpoint(job["folder"], every=job.get("every", EVERY))
    callbacks = [
        checkpoint,
        tfscale.callbacks.ReduceOnPlateau("loss", patience=1, factor=0.5, min_delta=1.0),
        keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=keeps_best),
        Interrupting(job.get("stop")),
    ]
    history: dict[str, Any] = {}
    try:
        made.fit(**data, validation_data=validation, epochs=EPOCHS, verbose=0, callbacks=callbacks)
        history = made.history.history
    except Interruption:
        pass
    checkpoint._writer.wait()
    return {
        "history": history,
        "variables": [
            np.asarray(v.value.numpy(), "float64").tobytes().hex() for v in variables_of(made)
        ],
        "resumed_from": vars(checkpoint.resumed_from) if checkpoint.resumed_from else None,
    }


def main(jobs: list[dict[str, Any]]) -> None:
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(7)
    made: dict[Any, Any] = {}
    models: dict[Any, tuple[Any, list[Any]]] = {}
    for job in jobs:
        kind = (job["kind"], job.get("replicas"))
        if kind not in made:
            if job["kind"] == "workers":
                made[kind] = strategies.multi_worker_mirrored_strategy()
            else:
                devices = [f"CPU:{i}" for i in range(job["replicas"])]
                made[kind] = strategies.mirrored_strategy(devices=devices)
        keras.config.set_floatx("float64")
        plan = (*kind, job.get("dropout", 0.25))
        if plan not in models:  # one model for many jobs, since tracing takes most of the time
            fresh = model(made[kind], plan[-1])
            with made[kind].scope():
                fresh.optimizer.build(fresh.trainable_variables)
            models[plan] = fresh, [v.numpy() for v in variables_of(fresh)]
        used, initial = models[plan]
        next(iter(adjustable_schedules(used.optimizer))).factor = 1.0
        for variable, value in zip(variables_of(used), initial, strict=True):
            variable.assign(value)
        found = trained(job, used)
        resolver = made[kind].cluster_resolver
        index = resolver.task_id if job["kind"] == "workers" else 0
        Path(f"{job['output']}.{index}").write_text(json.dumps(found))
        if job["kind"] == "workers" and job.get("stop"):
            os._exit(0)  # the others have been told that this one failed


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
