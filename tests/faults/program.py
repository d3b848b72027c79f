"""Program: the training in which faults happen.

    python -m tests.faults.program TRAINING

TRAINING is the JSON of a `Training`. Started a second time, it resumes from its newest checkpoint.
SIGUSR1 makes it do the fault of `injections` that the training names.
"""

from __future__ import annotations

import os

from tests.faults.lines import BEGIN_LINE, END_LINE, OVER_LINE, START_LINE, TOGETHER_LINE

if __name__ == "__main__":
    print(BEGIN_LINE, flush=True)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import dataclasses
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
import tfscale.callbacks
import tfscale.data
from strategies.cluster.environments import RESTART_VARIABLE
from tests.faults.injector import Injector, Slow
from tests.faults.interruption import SAVES, Interruption
from tests.faults.killing import Killer, kill_in_save
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

COLUMNS = 4


def main(training: Training) -> None:
    """Trains to the end."""
    injector = Injector(training.injected, training.pace_seconds)
    print(f"{START_LINE}{os.getpid()} {os.environ.get('TF_CONFIG', '')}", flush=True)
    keras.config.set_floatx("float64" if training.precision == "float64" else "float32")
    keras.config.set_dtype_policy(training.precision)
    keras.utils.set_random_seed(7)
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = _strategy(training)
    print(TOGETHER_LINE, flush=True)
    resolver = strategy.cluster_resolver
    worker = resolver.task_id if training.kind == WORKERS else 0
    model = _model(training, strategy, worker, injector)
    checkpoint = tfscale.callbacks.Checkpoint(training.checkpoints, every=training.every)
    notes = Notes(training, worker, checkpoint)
    callbacks = [checkpoint, notes, injector]
    if training.interruption:
        interruption = Interruption.from_text(training.interruption)
        callbacks.append(Killer(interruption, checkpoint))
        if interruption.moment in SAVES:
            kill_in_save(interruption)
    if training.watchdog_seconds is not None:
        callbacks.append(tfscale.callbacks.Watchdog(deadline_seconds=training.watchdog_seconds))
    if training.is_monitored:
        # Before the notes, which say that `fit` begins.
        callbacks.insert(0, tfscale.callbacks.Monitor(training.monitor, flops=False))
    train = _data(strategy, ROWS, injector)
    started = time.perf_counter()
    try:
        model.fit(
            train,
            validation_data=_data(strategy, VALIDATION_ROWS),
            epochs=training.epochs,
            verbose=0,
            callbacks=callbacks,
        )
    finally:
        error = sys.exc_info()[0]
        print(f"{OVER_LINE}{error.__name__ if error else 'it ended'}", flush=True)
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


def _model(
    training: Training, strategy: tf.distribute.Strategy, worker: int, injector: Injector
) -> keras.Model:
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((COLUMNS + 1,), dtype="float64"),
                RowsSeen(training.note("rows", worker)),
                *injector.layers(),
                *([Slow(training.step_seconds)] if training.step_seconds else []),
                keras.layers.Dense(8, activation="tanh"),
                keras.layers.Dropout(training.dropout, seed=3),
                keras.layers.BatchNormalization(synchronized=True),
                keras.layers.Dense(3, activation="softmax", dtype=_widest(training)),
            ]
        )
        rate = keras.optimizers.schedules.CosineDecay(0.02, 60, warmup_target=0.05, warmup_steps=9)
        optimizer = keras.optimizers.Adam(rate, global_clipnorm=1.0, use_ema=True)
        if training.precision == "mixed_float16":
            # Grows until it overflows, so that resumed trainings also have skipped steps.
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, dynamic_growth_steps=3)
        loss = "sparse_categorical_crossentropy"
        model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model


def _data(
    strategy: tf.distribute.Strategy, rows: int, injector: Injector | None = None
) -> tfscale.data.Pipeline:
    draw = np.random.default_rng(5)
    x, y = draw.normal(size=[rows, COLUMNS]), draw.integers(3, size=[rows])
    numbered = np.concatenate([x, np.arange(rows)[:, None]], axis=1)
    return tfscale.data.input_pipeline(
        (numbered, y),
        strategy,
        BATCH,
        shuffle=injector is not None,
        seed=11,
        preprocess=None if injector is None else injector.preprocess,
    )


def _widest(training: Training) -> str:
    return "float64" if training.precision == "float64" else "float32"


if __name__ == "__main__":
    given = Training.from_json(sys.argv[1])
    main(dataclasses.replace(given, attempt=int(os.environ.get(RESTART_VARIABLE, given.attempt))))
