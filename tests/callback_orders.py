"""In which order callbacks are called: of tfscale's, of Keras's and of a user's, in one `fit`."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfscale

HAS_TENSORBOARD = importlib.util.find_spec("tensorboard") is not None
OF_USER = [
    "Watchdog",
    "Recorder",
    "EarlyStopping",
    "ModelCheckpoint",
    *(["TensorBoard"] if HAS_TENSORBOARD else []),
    "History",
]


class Recorder(keras.callbacks.Callback):
    """A user's callback that writes down the callbacks as an epoch's end is announced to them."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []
        self.shown: list[str] = []

    def see_callbacks(self, callbacks: list[Any]) -> None:
        """Follows all callbacks of the list."""
        self.shown = [type(callback).__name__ for callback in callbacks]
        for callback in callbacks:
            name, announced = type(callback).__name__, callback.on_epoch_end

            def follow(*arguments: Any, name: str = name, announced: Any = announced) -> Any:
                self.called.append(name)
                return announced(*arguments)

            callback.on_epoch_end = functools.wraps(announced)(follow)


def callbacks_called(strategy: tf.distribute.Strategy, folder: Path) -> Recorder:
    """Trains for an epoch with every kind of callback; the checkpoint is given first."""
    recorder = Recorder()
    callbacks = [
        tfscale.callbacks.Checkpoint(folder / "checkpoints"),
        tfscale.callbacks.Watchdog(),
        recorder,
        keras.callbacks.EarlyStopping("loss"),
        keras.callbacks.ModelCheckpoint(str(folder / "model.keras")),
    ]
    if HAS_TENSORBOARD:
        callbacks.append(keras.callbacks.TensorBoard(str(folder / "tensorboard")))
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    rows = np.ones((8, 2))
    model.fit(rows, rows[:, :1], batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)
    return recorder
