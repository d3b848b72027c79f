"""The training that faults happen to.

    python -m tests.faults.program TRAINING

TRAINING is the JSON of a `Training`. Started again with the same one it goes on from its newest
checkpoint. SIGUSR1 makes it raise in the next step, SIGUSR2 stops its input.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
import tfscale.callbacks
import tfscale.data
from tests.faults.interruption import SAVES, Interruption
from tests.faults.killing import Killer, kill_in_save
from tests.faults.notes import END_LINE, START_LINE
from tests.faults.recording import Notes, RowsSeen, write_state
from tests.faults.training import (
    BATCH,
    MIRRORED,
    ONE_DEVICE,
    ROWS,
    VALIDATION_ROWS,
    WORKERS,
    Training,
)
from tfscale.launch.attempt import RESTART_VARIABLE

COLUMNS = 4
STALL_SECONDS = 600.0
REASON = "faults: raised on purpose"

raising, stalled = threading.Event(), threading.Event()


class Paced(keras.callbacks.Callback):
    """Slows training down, and raises when told to.

    Args:
        seconds: Pause after each step.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Pauses or raises."""
        if raising.wait(self._seconds):
            raise RuntimeError(REASON)


def main(training: Training) -> None:
    """Trains to the end."""
    signal.signal(signal.SIGUSR1, lambda *_: raising.set())
    signal.signal(signal.SIGUSR2, lambda *_: stalled.set())
    print(f"{START_LINE}{os.getpid()} {os.environ.get('TF_CONFIG', '')}", flush=True)
    keras.config.set_floatx("float64" if training.precision == "float64" else "float32")
    keras.config.set_dtype_policy(training.precision)
    keras.utils.set_random_seed(7)
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = _strategy(training)
    resolver = strategy.cluster_resolver
    worker = resolver.task_id if training.kind == WORKERS else 0
    model = _model(training, strategy, worker)
    checkpoint = tfscale.callbacks.Checkpoint(training.checkpoints, every=training.every)
    notes = Notes(training, worker, checkpoint)
    callbacks = [checkpoint, notes, Paced(training.pace_seconds)]
    if training.interruption:
        interruption = Interruption.from_text(training.interruption)
        callbacks.append(Killer(interruption, checkpoint))
        if interruption.moment in SAVES:
            kill_in_save(interruption)
    if training.watchdog_seconds is not None:
        callbacks.append(tfscale.callbacks.Watchdog(deadline_seconds=training.watchdog_seconds))
    train = _data(strategy, ROWS, shuffle=True, is_stallable=training.is_stallable)
    started = time.perf_counter()
    model.fit(
        train,
        validation_data=_data(strategy, VALIDATION_ROWS, shuffle=False),
        epochs=training.epochs,
        verbose=0,
        callbacks=callbacks,
    )
    seconds = time.perf_counter() - started
    write_state(model, training.note("state", worker))
    step = 1000 * notes.step_seconds()
    print(f"{END_LINE}{seconds:.3f} s, {step:.3f} ms a step", flush=True)


def _strategy(training: Training) -> tf.distribute.Strategy:
    if training.kind == ONE_DEVICE:
        return strategies.one_device_strategy("CPU:0")
    if training.kind == MIRRORED:
        return strategies.mirrored_strategy(num_replicas=2)
    return strategies.multi_worker_mirrored_strategy()


def _model(training: Training, strategy: tf.distribute.Strategy, worker: int) -> keras.Model:
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((COLUMNS + 1,), dtype="float64"),
                RowsSeen(training.note("rows", worker)),
                keras.layers.Dense(8, activation="tanh"),
                keras.layers.Dropout(training.dropout, seed=3),
                keras.layers.BatchNormalization(synchronized=True),
                keras.layers.Dense(3, activation="softmax", dtype=_widest(training)),
            ]
        )
        rate = keras.optimizers.schedules.CosineDecay(0.02, 60, warmup_target=0.05, warmup_steps=9)
        optimizer = keras.optimizers.Adam(rate, global_clipnorm=1.0, use_ema=True)
        if training.precision == "mixed_float16":
            # Grows until it overflows, so that skipped steps are among those resumed over.
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, dynamic_growth_steps=3)
        loss = "sparse_categorical_crossentropy"
        model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model


def _data(
    strategy: tf.distribute.Strategy, rows: int, *, shuffle: bool, is_stallable: bool = False
) -> tfscale.data.Pipeline:
    draw = np.random.default_rng(5)
    x, y = draw.normal(size=[rows, COLUMNS]), draw.integers(3, size=[rows])
    numbered = np.concatenate([x, np.arange(rows)[:, None]], axis=1)
    return tfscale.data.input_pipeline(
        (numbered, y),
        strategy,
        BATCH,
        shuffle=shuffle,
        seed=11,
        preprocess=_stalling if is_stallable else None,
    )


def _stalling(batch: Any) -> Any:
    x, y = batch

    def wait(values: np.ndarray) -> np.ndarray:
        if stalled.is_set():
            threading.Event().wait(STALL_SECONDS)
        return values

    passed = tf.numpy_function(wait, [x], x.dtype)
    passed.set_shape(x.shape)
    return passed, y


def _widest(training: Training) -> str:
    return "float64" if training.precision == "float64" else "float32"


if __name__ == "__main__":
    given = Training.from_json(sys.argv[1])
    main(dataclasses.replace(given, attempt=int(os.environ.get(RESTART_VARIABLE, given.attempt))))
