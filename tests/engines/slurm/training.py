"""Program: a training in float64 that can be interrupted anywhere.

    python -m tests.engines.slurm.training FOLDER [--pace_seconds=S] [--one_device]

Prints a line a batch. Saves a checkpoint every second batch to FOLDER/checkpoints, and the weights
at the end to FOLDER/weights.npz.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale.callbacks
import tfscale.data

EPOCHS, ROWS, BATCH = 3, 240, 24  # 30 batches; a batch is a multiple of 1, 2, 3 and 4 workers


class Pace(keras.callbacks.Callback):
    """Prints batches, and waits after each."""

    def __init__(self, seconds: float, checkpoint: tfscale.callbacks.Checkpoint) -> None:
        super().__init__()
        self._seconds = seconds
        self._checkpoint = checkpoint

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Says where the training begins."""
        print(f"begins at {self._checkpoint.resumed_from}", flush=True)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Prints the batch."""
        print(f"batch {int(self.model.optimizer.iterations)}", flush=True)
        time.sleep(self._seconds)


def main(folder: Path, pace_seconds: float, one_device: bool) -> None:
    """Trains to the end."""
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(7)
    strategy: tf.distribute.Strategy = (
        strategies.one_device_strategy("CPU:0")
        if one_device
        else strategies.multi_worker_mirrored_strategy()
    )
    draw = np.random.default_rng(5)
    x, y = draw.normal(size=(ROWS, 4)), draw.integers(3, size=ROWS)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((4,), dtype="float64"),
                keras.layers.Dense(8, "tanh"),
                keras.layers.Dense(3, "softmax"),
            ]
        )
        loss = "sparse_categorical_crossentropy"
        model.compile(keras.optimizers.Adam(0.02, global_clipnorm=1.0), loss, jit_compile=False)
    data = tfscale.data.input_pipeline((x, y), strategy, BATCH, shuffle=True, seed=11)
    checkpoint = tfscale.callbacks.Checkpoint(folder / "checkpoints", every=2)
    pace = Pace(pace_seconds, checkpoint)
    model.fit(data, epochs=EPOCHS, verbose=0, callbacks=[checkpoint, pace])
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_id:
        np.savez(folder / "weights.npz", *model.get_weights())
    print("trained", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pace_seconds", type=float, default=0.0)
    parser.add_argument("--one_device", action="store_true")
    given = parser.parse_args()
    main(given.folder, given.pace_seconds, given.one_device)
