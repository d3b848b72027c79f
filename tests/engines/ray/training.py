"""Program: a worker that trains a model with checkpoints, and writes its weights at the end.

    python -m tests.engines.ray.training FOLDER [lost-worker | lost-node]

With "lost-worker" worker 1 kills itself in the fourth epoch of the first start. With "lost-node"
all wait there, which the file FOLDER/waits shows.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import strategies
import tfscale

EPOCHS = 6
LOST_IN = 3


class Disturbance(keras.callbacks.Callback):
    """Kills this worker, or waits, in one epoch."""

    def __init__(self, folder: Path, what: str, is_chief: bool) -> None:
        super().__init__()
        self._folder, self._what, self._is_chief = folder, what, is_chief

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == LOST_IN and not (self._folder / "disturbed").exists():
            time.sleep(2.0)  # the checkpoint of the epoch before is written
            if self._what == "lost-worker" and not self._is_chief:
                (self._folder / "disturbed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if self._what == "lost-node":
                if self._is_chief:
                    (self._folder / "waits").touch()
                time.sleep(600)  # until the test has ended the node


def train(folder: Path, what: str, strategy: Any, more: Any = lambda checkpoint: []) -> None:
    """Trains, or continues, and writes the weights."""
    is_chief = strategies.is_chief(strategy)
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(60, 4)), draw.normal(size=(60, 1))
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    data = tfscale.data.input_pipeline((x, y), strategy, global_batch_size=12, seed=1)
    checkpoint = tfscale.callbacks.Checkpoint(folder / "checkpoints", asynchronous=False)
    callbacks = [Disturbance(folder, what, is_chief), checkpoint, *more(checkpoint)]
    model.fit(data, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    if is_chief:
        np.save(folder / "weights.npy", np.concatenate([w.ravel() for w in model.get_weights()]))


if __name__ == "__main__":
    train(Path(sys.argv[1]), "".join(sys.argv[2:]), strategies.auto_strategy())
    print("trained", EPOCHS, "epochs", flush=True)
