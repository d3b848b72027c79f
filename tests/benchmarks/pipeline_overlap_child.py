"""Program: trains a model of sleeps or of matrix products, and prints the seconds of a step.

python -m tests.benchmarks.pipeline_overlap_child sleeps 1f1b
python -m tests.benchmarks.pipeline_overlap_child work gpipe
python -m tests.benchmarks.pipeline_overlap_child serial

serial is the model of work on one device, one microbatch after another.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
from tests.benchmarks.step_times import StepTimes
from tfscale.callbacks import Microbatches
from tfscale.parallel import Pipeline

STEP = "seconds of a step: "
SLEEPS = 0.02, 0.04
"""Seconds of the forward and the backward pass of a stage."""
MICROBATCHES, STEPS = 8, 6
WIDTH, ROWS, LAYERS = 640, 320, 4
"""Units of a layer of work, rows of a microbatch, and layers of a stage."""
THREADS = {"sleeps": 8, "work": 2, "serial": 1}
STAGES = {"sleeps": 4, "work": 2, "serial": 1}


class Sleep(keras.layers.Layer):
    """Sleeps in both passes.

    Args:
        forward: Seconds.
        backward: Seconds.
    """

    def __init__(self, forward: float, backward: float) -> None:
        super().__init__()
        self._forward, self._backward = forward, backward

    def call(self, x: Any) -> Any:
        """Returns the input, later."""

        @tf.custom_gradient
        def sleeping(x: tf.Tensor) -> Any:
            return slept(x, self._forward), lambda upstream: slept(upstream, self._backward)

        return sleeping(x)


def slept(x: tf.Tensor, seconds: float) -> tf.Tensor:
    """Returns a tensor after a time."""

    def sleep(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        time.sleep(seconds)
        return value

    # Stateful functions would wait for each other.
    return tf.ensure_shape(tf.numpy_function(sleep, [x], x.dtype, stateful=False), x.shape)


class StagesTimes(StepTimes):
    """Notes the seconds of each step of a pipeline."""

    def wait(self) -> None:
        """Waits until all weights are updated."""
        for weight in self.model.weights:
            weight.numpy()


def sleeping(runs: int, virtual: int) -> list[keras.Layer]:
    """Returns layers of so many runs that sleep."""
    forward, backward = (seconds / virtual for seconds in SLEEPS)
    made: list[keras.Layer] = [keras.Input((1,))]
    for i in range(runs):
        made += [keras.layers.Dense(1, name=f"run_{i}"), Sleep(forward, backward)]
    return made


def working(runs: int) -> list[keras.Layer]:
    """Returns layers of so many runs that compute."""
    made: list[keras.Layer] = [keras.Input((WIDTH,))]
    for i in range(runs):
        made += [
            keras.layers.Dense(WIDTH, "relu", name=f"run_{i}" if k == 0 else None)
            for k in range(LAYERS)
        ]
    return made


def main(kind: str, schedule: str = "") -> None:
    """Trains, and prints the median of the steps after the first two."""
    tf.config.threading.set_inter_op_parallelism_threads(THREADS[kind])
    tf.config.threading.set_intra_op_parallelism_threads(1)
    virtual = 2 if schedule == "interleaved" else 1
    runs = max(STAGES[kind] * virtual, 2)
    times = StagesTimes()
    callbacks: list[keras.callbacks.Callback] = [times]
    with strategies.mirrored_strategy(1, devices_per_replica=STAGES[kind]).scope():
        made = sleeping(runs, virtual) if kind == "sleeps" else working(runs)
        model = keras.Sequential(made)
        model.compile("sgd", "mse", jit_compile=False)
    if kind == "serial":
        callbacks.append(Microbatches(MICROBATCHES))
    else:
        names = [f"run_{i}" for i in range(1, runs)]
        Pipeline(model, names, MICROBATCHES, schedule=schedule, virtual_stages=virtual)
    ones = tf.ones([MICROBATCHES * (1 if kind == "sleeps" else ROWS), model.input_shape[-1]])
    model.fit(
        tf.data.Dataset.from_tensors((ones, ones)).repeat(STEPS), verbose=0, callbacks=callbacks
    )
    print(f"{STEP}{statistics.median(times.seconds[2:])}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
