"""Program: trains on a packed set and writes its weights, with its memory at each line.

python -m tests.packed_training.training PACKED RUN EPOCHS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tests.memory import resident_bytes, trim

BATCH = 61
"""No multiple of two: a worker takes 30 or 31 rows."""
EVERY = 20
"""Steps from one checkpoint to the next, and from one line to the next."""


class Lines(keras.callbacks.Callback):
    """Prints the step and the resident memory without pages of files, in MiB."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Prints a line now and then."""
        step = int(self.model.optimizer.iterations)
        if step % EVERY == 0:
            trim()
            print(f"step {step}: {resident_bytes() / 2**20:.0f} MiB", flush=True)


def small(batch: Any) -> Any:
    """Maps images to 8x8 means, which a small model takes."""
    images, labels = batch
    return tf.image.resize(tf.cast(images, tf.float64), [8, 8], "area") / 255.0, labels


def main(packed: str, run: str, epochs: str) -> None:
    """Trains, or resumes the training."""
    keras.config.set_floatx("float64")
    strategy = strategies.auto_strategy()
    train = tfscale.data.input_pipeline(
        tfscale.data.shards(packed), strategy, global_batch_size=BATCH, seed=3, preprocess=small
    )
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Flatten(),
                keras.layers.Dense(32, activation="tanh"),
                keras.layers.Dense(10),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.003), loss)
    checkpoint = tfscale.callbacks.Checkpoint(f"{run}/checkpoints", every=EVERY)
    model.fit(train, epochs=int(epochs), callbacks=[checkpoint, Lines()], verbose=0)
    if strategies.is_chief(strategy):
        weights = np.concatenate([weight.ravel() for weight in model.get_weights()])
        np.save(Path(run, "weights.npy"), weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
