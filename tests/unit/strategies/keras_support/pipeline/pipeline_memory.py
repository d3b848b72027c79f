"""Prints how far this process's memory rises in steps of a pipeline, in MiB. Linux only.

python -m tests.unit.strategies.keras_support.pipeline.pipeline_memory SCHEDULE MICROBATCHES

A microbatch has always the same size; so with the number of microbatches the batch grows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import tensorflow as tf

import strategies
from tests.memory import resident_bytes
from tests.unit.strategies.keras_support.step.microbatch_memory import peak
from tfscale.parallel import Pipeline

ROWS, WIDTH, LAYERS = 2048, 256, 8
ACTIVATIONS = ROWS * WIDTH * LAYERS * 4 / 2**20
"""What the layers compute for a microbatch, in MiB; weights are 2 MiB."""


def main(schedule: str, microbatches: int) -> None:
    """Trains on a few rows, to trace the step, and measures four steps of many rows."""
    strategy = strategies.mirrored_strategy(1, devices_per_replica=2)
    with strategy.scope():
        dense = [keras.layers.Dense(WIDTH, "tanh", name=f"d{i}") for i in range(LAYERS)]
        model = keras.Sequential([keras.Input((2,)), *dense, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    Pipeline(model, [f"d{LAYERS // 2}"], microbatches, schedule=schedule)

    def fit(rows: int) -> None:
        def batch(i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.ones([rows + 0 * i, 2]), tf.ones([rows + 0 * i, 1])  # of unknown size

        model.fit(tf.data.Dataset.range(4).map(batch), verbose=0)

    fit(rows=64)
    before = resident_bytes()
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak begins again
    fit(ROWS * microbatches)
    print(round((peak() - before) / 2**20), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
