"""Cases in which callbacks write files, with the same paths on all workers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state

from tests.callback_orders import callbacks_called
from tests.workers.job import Found
from tests.workers.small_models import numbers, regression, rows

EPOCHS = 4


class Crash(keras.callbacks.Callback):
    """Fails in the middle of the third epoch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.model.optimizer.iterations.numpy() == 2 * 5 + 3:
            raise OSError("the disk is full")


class Begun(keras.callbacks.Callback):
    """Records the epochs that begin."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[int] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(epoch)


def backed_up(strategy: tf.distribute.Strategy, folder: Path | None, *more: Any) -> Found:
    """Trains with a backup at the end of each epoch, or without one on one device."""
    begun, callbacks = Begun(), list(more)
    if folder is not None:
        callbacks.append(keras.callbacks.BackupAndRestore(str(folder / "backup")))
    model = regression(strategy)
    model.fit(
        *rows(),
        batch_size=5,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[begun, *callbacks],
    )
    steps = int(model.optimizer.iterations.numpy())
    return {"epochs": begun.epochs, "steps": steps, "weights": numbers(model)}


def files(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Writes every kind of file, and loads those that can be loaded, on each worker."""
    own = [keras.callbacks.ModelCheckpoint(str(folder / f"of-worker-{index}.keras"))]
    if importlib.util.find_spec("tensorboard"):
        own.append(keras.callbacks.TensorBoard(str(folder / "tensorboard")))
    model = regression(strategy)
    history = model.fit(
        *rows(),
        batch_size=5,
        epochs=2,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(str(folder / "model.keras")),
            keras.callbacks.ModelCheckpoint(str(folder / "epoch-{epoch}.keras")),
            keras.callbacks.ModelCheckpoint(
                str(folder / "model.weights.h5"), save_weights_only=True
            ),
            keras.callbacks.CSVLogger(str(folder / "log.csv")),
            keras.callbacks.BackupAndRestore(str(folder / "finished")),
            *own,
        ],
    ).history
    loaded = keras.saving.load_model(folder / "model.keras")
    fresh = regression(strategy)
    fresh.load_weights(folder / "model.weights.h5")
    return {
        "weights": numbers(model),
        "model.keras": numbers(loaded),
        "steps": int(loaded.optimizer.iterations.numpy()),
        "model.weights.h5": numbers(fresh),
        "loss": [float(loss) for loss in history["loss"]],
    }


def saved_in_scope(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Calls fit inside the scope, where the chief saves without the others."""
    # As if no optimizer had been saved before.
    global_state.set_global_attribute("saving_attr_skiplist_Optimizer", None)
    model = regression(strategy)
    path = folder / "in-scope"
    path.mkdir(exist_ok=True)
    with strategy.scope():
        model.fit(
            *rows(),
            batch_size=5,
            verbose=0,
            callbacks=[keras.callbacks.ModelCheckpoint(str(path / "model.keras"))],
        )
    loaded = keras.saving.load_model(path / "model.keras")
    return {"weights": numbers(model), "model.keras": numbers(loaded)}


def callback_order(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Trains with every kind of callback, which each worker writes down as they are called."""
    recorder = callbacks_called(strategy, folder / "callback-order")
    return {"called": recorder.called, "shown": recorder.shown}


CASES = (files, saved_in_scope, callback_order)
