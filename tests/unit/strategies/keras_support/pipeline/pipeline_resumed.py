"""Trains a pipeline that saves checkpoints, and prints what it came to: weights, slots, history.

python -m tests.unit.strategies.keras_support.pipeline.pipeline_resumed FOLDER STEPS SHARD

It stops after STEPS steps of this process; 0 for none.
"""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np

import strategies
import tfscale
from tfscale.parallel import Pipeline

layers = keras.layers
DRAW = np.random.default_rng(7)
X, Y = DRAW.normal(size=(48, 4)), DRAW.normal(size=(48, 1))


class StopAfter(keras.callbacks.Callback):
    """Ends training after some batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._left = batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._left -= 1
        self.model.stop_training = self._left == 0 or self.model.stop_training


def main(folder: str, steps: int, shard: int) -> None:
    """Four epochs of three steps, with dropout, statistics, averages and accumulation."""
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(5)
    with strategies.mirrored_strategy(2, devices_per_replica=2, shard=shard).scope():
        parts = [
            layers.Dense(6, "tanh", name="a"),
            layers.Dropout(0.3, seed=3),
            layers.BatchNormalization(name="normalized"),
            layers.Dense(6, "tanh", name="b"),
            layers.Dense(1, name="c"),
        ]
        model = keras.Sequential([keras.Input([4]), *parts])
        optimizer = keras.optimizers.Adam(
            0.02, global_clipnorm=0.5, use_ema=True, gradient_accumulation_steps=3
        )
        model.compile(optimizer, "mse", metrics=["mae"])
    Pipeline(model, ["b"], 4, schedule="1f1b")
    fitted = model.fit(
        X,
        Y,
        batch_size=16,
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=[StopAfter(steps), tfscale.callbacks.Checkpoint(folder, every=2)],
    )
    print([fitted.history[name][-1] for name in ("loss", "mae")])
    for variable in [*model.variables, *optimizer.variables]:
        print(np.atleast_1d(variable.numpy()).astype("float64").tolist())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
