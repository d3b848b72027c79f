"""Cases in which one worker asks to stop, and all stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.workers.job import Found
from tests.workers.small_models import regression


class StopHere(keras.callbacks.Callback):
    """Asks to stop on one worker only."""

    def __init__(self, is_me: bool, *, epoch: int | None = None, batch: int | None = None) -> None:
        super().__init__()
        self._is_me = is_me
        self._at = {"epoch": epoch, "batch": batch}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._is_me and self._at["batch"] is not None and batch >= self._at["batch"]:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._is_me and epoch == self._at["epoch"]:
            self.model.stop_training = True


class Count(keras.callbacks.Callback):
    """Counts the epochs that begin."""

    epochs = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epochs += 1


def _stopped(
    strategy: tf.distribute.Strategy, callback: Any, steps: int, **arguments: Any
) -> Found:
    """Trains up to three epochs of `steps` steps; returns how many epochs and steps were done."""
    model, count = regression(strategy, **arguments), Count()
    x, y = np.ones([2 * steps, 3]), np.ones([2 * steps, 1])
    validation = (x[:2], y[:2] * 1e3)
    model.fit(
        x,
        y,
        batch_size=2,
        epochs=3,
        validation_data=validation,
        callbacks=[callback, count],
        verbose=0,
    )
    return {"epochs": count.epochs, "steps": int(model.optimizer.iterations.numpy())}


def early_stopping(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    # The mode is "max" and each epoch makes the loss smaller: it is worse from the second on.
    callback = keras.callbacks.EarlyStopping("val_loss", mode="max", patience=0)
    return _stopped(strategy, callback, steps=3)


def at_an_epochs_end(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    return _stopped(strategy, StopHere(index == 1, epoch=1), steps=3)


def in_mid_epoch(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    return _stopped(strategy, StopHere(index == 1, batch=2), steps=40)


def in_mid_epoch_of_long_executions(
    strategy: tf.distribute.Strategy, folder: Path, index: int
) -> Found:
    callback = StopHere(index == 0, batch=2)
    return _stopped(strategy, callback, steps=40, steps_per_execution=2)


def in_a_short_epoch(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    return _stopped(strategy, StopHere(index == 0, batch=1), steps=5)


CASES = (
    early_stopping,
    at_an_epochs_end,
    in_mid_epoch,
    in_mid_epoch_of_long_executions,
    in_a_short_epoch,
)
