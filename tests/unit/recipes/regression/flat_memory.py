"""Prints by how many bytes a process grows from a small problem to a large one, and the large one's
size as a matrix: solving it, and one epoch of SGD."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

import strategies
import tfscale
from recipes.regression import methods as regression_methods
from recipes.regression.convergence import Landscape
from recipes.regression.least_squares import least_squares
from recipes.regression.problem import LinearProblem

FEATURES, BATCH = 24, 4096


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def train(strategy: tf.distribute.Strategy, num_rows: int) -> None:
    problem = LinearProblem(num_rows, FEATURES, condition=10.0, noise=0.1, seed=0)
    batches = tfscale.data.input_pipeline(
        tf.data.Dataset.range(num_rows),
        strategy,
        global_batch_size=BATCH,
        preprocess=problem.rows,
    )
    solution = least_squares(problem.chunks())
    landscape = Landscape(*solution.curvatures, problem.largest_square, solution.loss)
    planned = regression_methods.planned(
        landscape,
        steps_per_epoch=batches.steps_per_epoch,
        epochs=1,
        global_batch_size=BATCH,
        num_replicas=strategy.num_replicas_in_sync,
        average_every=8,
        adam_rate=0.01,
        epsilon=2.0**-52,
    )
    outcome = regression_methods.train(planned["sgd"], batches, solution, epochs=1)
    assert outcome.is_reached, outcome.record()


def main() -> None:
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    strategy = strategies.mirrored_strategy(2)
    train(strategy, 8 * BATCH)
    before = peak_bytes()
    num_rows = 192 * BATCH
    train(strategy, num_rows)
    print(peak_bytes() - before, num_rows * (FEATURES + 1) * 8)


if __name__ == "__main__":
    main()
