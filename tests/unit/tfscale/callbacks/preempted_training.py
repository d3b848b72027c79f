"""Trains, is preempted and resumes, for test_preemption.py: all cases in one process.

Usage: python preempted_training.py FOLDER CASES, where CASES is a JSON list. A case has a `name`
(its checkpoints lie in a folder of that name), and may have `at`, the moment of SIGTERM, `worker`,
the one that receives it, in the first start of the job, and options of the training. With `exit`
the process ends as the training does.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale

EPOCHS, ROWS, BATCH = 3, 40, 4  # 10 steps an epoch


class Terminated(keras.callbacks.Callback):
    """Sends SIGTERM to this process, twice, at a moment; makes this worker slower than others."""

    def __init__(self, at: Any, seconds: float) -> None:
        super().__init__()
        self.at = at
        self.seconds = seconds
        self.batches = 0

    def meet(self, moment: Any) -> None:
        if moment == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.meet(f"begin {epoch}")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1
        if self.at == "outside" and self.batches == 3:
            print("ready", flush=True)
        time.sleep(self.seconds)  # work, of a slow worker
        self.meet(self.batches)
        if self.at == f"error {self.batches}":
            raise RuntimeError("an error of the program")

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.meet(f"validation {self.batches}")

    def on_train_end(self, logs: Any = None) -> None:
        self.meet("end")

    def state(self) -> dict[str, Any]:
        """Called while a checkpoint is taken."""
        self.meet(f"save {self.batches}")
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """There is nothing to restore."""


def model(strategy: tf.distribute.Strategy, steps: int, dtype: str) -> Any:
    with strategy.scope():
        made = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(5, activation="tanh", dtype=dtype),
                keras.layers.Dropout(0.25, dtype=dtype),
                keras.layers.BatchNormalization(dtype=dtype),
                keras.layers.Dense(1, dtype=dtype),
            ]
        )
        optimizer = keras.optimizers.Adam(0.01, clipnorm=1.0)
        if dtype == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(
                optimizer, initial_scale=8.0, dynamic_growth_steps=10
            )
        made.compile(optimizer, "mse", metrics=["mae"], steps_per_execution=steps)
        optimizer.build(made.trainable_variables)
    return made


def variables(made: Any) -> list[Any]:
    return [*made.variables, *made.optimizer.variables]


def trained(case: dict[str, Any], made: Any, folder: Path, index: int) -> dict[str, Any]:
    draw = np.random.default_rng(3)
    x = draw.normal(size=[ROWS, 3])
    y = x.sum(axis=1, keepdims=True)
    data = tfscale.data.input_pipeline((x, y), made.distribute_strategy, BATCH, seed=5)
    checkpoint = tfscale.callbacks.Checkpoint(
        folder / case.get("folder", case["name"]), every=case.get("every", 1000)
    )
    is_told = index == case.get("worker", 0) and os.environ.get("TFSCALE_RESTART", "0") == "0"
    seconds = case.get("seconds", [0.0, 0.0])[index]
    terminated = Terminated(case.get("at") if is_told else None, seconds)
    local = [tfscale.callbacks.LocalUpdates(every=2)] if case.get("local") else []
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append("earlier"))
    status: int | str | None = 0
    try:
        made.fit(
            data,
            epochs=EPOCHS,
            validation_data=(x, y),
            verbose=0,
            callbacks=[*local, checkpoint, terminated],
        )
    except SystemExit as exit_:
        status = exit_.code
    except RuntimeError:
        status = "error"
    is_ignored = signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    if not is_ignored:
        os.kill(os.getpid(), signal.SIGTERM)
    values = b"".join(np.asarray(v.numpy(), "float64").tobytes() for v in variables(made))
    resumed = checkpoint.resumed_from
    return {
        "status": status,
        "heard": heard,
        "position": list(vars(checkpoint.position).values()),
        "resumed_from": list(vars(resumed).values()) if resumed else None,
        "variables": hashlib.sha256(values).hexdigest(),
        "loss_scale": [
            float(v.numpy())
            for v in made.optimizer.variables
            if v.path.endswith(("dynamic_scale", "step_counter"))
        ],
        "history": made.history.history if status == 0 else None,
    }


def main(folder: Path, cases: list[dict[str, Any]]) -> None:
    tf.config.experimental.enable_op_determinism()
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(7)
    if "TF_CONFIG" in os.environ:
        strategy = strategies.multi_worker_mirrored_strategy()
        index = strategy.cluster_resolver.task_id
    else:
        strategy, index = strategies.one_device_strategy("CPU:0"), 0
    models: dict[Any, Any] = {}
    for case in cases:
        kind = (case.get("steps_per_execution", 1), case.get("dtype", "float64"))
        if kind not in models:  # one model for many cases, since tracing takes most of the time
            models[kind] = made = model(strategy, *kind)
            made.initial = [v.numpy() for v in variables(made)]
        made = models[kind]
        for variable, value in zip(variables(made), made.initial, strict=True):
            variable.assign(value)
        found = trained(case, made, folder, index)
        (folder / f"{case['name']}.{index}.json").write_text(json.dumps(found))
        if case.get("exit") and found["status"]:
            sys.exit(found["status"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
