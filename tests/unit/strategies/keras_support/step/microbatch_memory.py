"""Prints how far this process's memory rises in a training step, in MiB. Linux only.

python -m tests.unit.strategies.keras_support.step.microbatch_memory COUNT REPLICAS [xla]
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tests.memory import resident_bytes

ROWS, WIDTH, LAYERS = 16384, 256, 16
ACTIVATIONS = ROWS * WIDTH * LAYERS * 4 / 2**20
"""What the layers compute for a batch, in MiB; weights are 4 MiB."""


def main(count: int, replicas: int, is_compiled: bool) -> None:
    """Trains on a few rows, to trace the step, and measures a step of many rows."""
    strategy = strategies.mirrored_strategy(replicas)
    with strategy.scope():
        dense = [keras.layers.Dense(WIDTH, "tanh") for _ in range(LAYERS)]
        model = keras.Sequential([keras.Input((2,)), *dense, keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=is_compiled)

    def fit(rows: int) -> None:
        x = np.ones((rows, 2), "float32")
        data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(rows)  # of unknown size
        model.fit(data, verbose=0, callbacks=[tfscale.callbacks.Microbatches(count)])

    fit(rows=64)
    before = resident_bytes()
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak begins again
    fit(ROWS)
    print(round((peak() - before) / 2**20), flush=True)


def peak() -> int:
    """The largest resident memory since the last `clear_refs`, in bytes, without files' pages."""
    status = Path("/proc/self/status").read_text("ascii").splitlines()
    fields = dict(line.split(":", 1) for line in status)
    files = int(fields["RssFile"].split()[0]) + int(fields["RssShmem"].split()[0])
    return (int(fields["VmHWM"].split()[0]) - files) * 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), "xla" in sys.argv)
