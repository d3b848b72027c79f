"""Prints what this process asks TensorFlow's allocator for in steps of a pipeline, in MiB, at most.

python -m tests.unit.strategies.keras_support.pipeline.pipeline_memory SCHEDULE MICROBATCHES

A microbatch has always the same size; so with the number of microbatches the batch grows. The bytes
are those asked for, not the resident memory of the process, which differs from run to run.
"""

from __future__ import annotations

import os
import sys

ROWS, WIDTH, LAYERS = 2048, 256, 8
ACTIVATIONS = ROWS * WIDTH * LAYERS * 4 / 2**20
"""What the layers compute for a microbatch, in MiB; weights are 2 MiB."""


def main(schedule: str, microbatches: int) -> None:
    """Trains on a few rows, to trace the step, and measures four steps of many rows."""
    import keras
    import tensorflow as tf

    import strategies
    from tests.unit.tfscale.plan.memory.allocator_trace import recorded_peak
    from tfscale.parallel import Pipeline

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
    with recorded_peak() as peak:
        fit(ROWS * microbatches)
    print(round(peak.requested / 2**20), flush=True)


if __name__ == "__main__":
    # This allocator records what it does; the usual one does not.
    os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "true"
    main(sys.argv[1], int(sys.argv[2]))
