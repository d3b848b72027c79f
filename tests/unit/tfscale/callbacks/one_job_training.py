"""Trains a model of one weight with a checkpoint after every step, for test_one_job_a_folder.py.

Usage: python one_job_training.py FOLDER STEPS SECONDS, where a step lasts SECONDS. Prints "step N"
after the N-th step of the run, "refused: ..." where another job holds the folder, and "done".
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np

import strategies
from tfscale.callbacks import Checkpoint


class Says(keras.callbacks.Callback):
    """Prints the number of each step that was trained, over all starts."""

    def __init__(self, checkpoint: Checkpoint, seconds: float) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.seconds = seconds

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        print("step", self.checkpoint.position.batches + 1, flush=True)
        time.sleep(self.seconds)


def main(folder: str, steps: int, seconds: float) -> None:
    with strategies.one_device_strategy("CPU:0").scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    checkpoint = Checkpoint(folder, every=1, keep=None)
    rows = np.ones([steps, 1])
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        callbacks = [checkpoint, Says(checkpoint, seconds)]
        model.fit(rows, rows, batch_size=1, shuffle=False, verbose=0, callbacks=callbacks)
    except ValueError as error:
        print("refused:", error, flush=True)
        sys.exit(1)
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
