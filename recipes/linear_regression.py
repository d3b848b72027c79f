r"""Fits a linear model in four ways, and compares them with the least-squares solution.

    python -m recipes.linear_regression --distribution_strategy=mirrored --num_replicas=2

    tfscale launch --num_workers=2 -- python -m recipes.linear_regression \
        --distribution_strategy=multi_worker_mirrored

Gradient descent from all rows, SGD and Adam from global batches, and "averaged": each
replica takes independent steps, and every --average_every steps all parameters become
their mean. The exact solution comes from one pass over the rows (QR, in float64). Rows
are generated from the seed when needed and never stored, so --num_rows may exceed any
memory.

Prints for each optimizer the distance to the solution in lengths of the solution, its
tolerance, which follows from the problem (recipes/regression/convergence.py), and the
loss above the minimum. Writes report.html with the plot, run.json and summary.json to
--model_dir.

--learning_rate is the rate of Adam; the other rates follow from the problem.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence

# TensorFlow's start-up lines would hide those of the recipe. Set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import strategies
import tfscale
from recipes import common_flags, entry_point, flag_sections, number_flags, results
from recipes.regression import convergence, methods
from recipes.regression.build import (
    batches_of,
    flagged_problem,
    model_and_data,  # noqa: F401  (what `tfscale preflight` looks at)
)
from recipes.regression.least_squares import LeastSquares, least_squares
from recipes.regression.problem import LinearProblem
from recipes.run_record import run_record
from tfscale.cli import NOT_NEGATIVE, floats
from tfscale.report import REPORT_FILE, Curve, Timing

FLAGS = flags.FLAGS

# This recipe generates its rows, and compares optimizers with fixed schedules.
_UNUSED = (
    "data_dir",
    "train_steps",
    "optimizer",
    "schedule",
    "warmup_steps",
    "gradient_clip_norm",
    "microbatches",
    "checkpoint_every",
)


def define_flags() -> None:
    """Defines this recipe's flags."""
    with flag_sections.section("this recipe"):
        number_flags.define_integer("num_rows", 3072, "Rows; a multiple of --global_batch_size.")
        number_flags.define_integer("num_features", 10, "Features of a row.")
        number_flags.define_float(
            "condition",
            10.0,
            "Condition number of the problem: largest by smallest curvature of the loss.",
            floats("at least 1 and finite", "10", lambda condition: condition >= 1),
        )
        number_flags.define_float(
            "noise",
            0.1,
            "Standard deviation of the targets' errors; the coefficients have length 1.",
            NOT_NEGATIVE,
        )
        flags.DEFINE_string(
            "optimizers",
            ",".join(methods.NAMES),
            "The optimizers to compare, in order.",
        )
        number_flags.define_integer(
            "average_every",
            8,
            "Steps of each replica of averaged between two means. 1 is synchronous SGD.",
        )
    flags.register_validator(
        "optimizers",
        lambda names: set(names.split(",")) <= set(methods.NAMES),
        f"must be names from {','.join(methods.NAMES)}, separated by commas.",
    )
    common_flags.define(without=_UNUSED)
    # Differences should come from the optimizers, not from rounding.
    FLAGS.set_default("precision", "float64")
    FLAGS.set_default("learning_rate", 0.02)
    entry_point.define(__doc__)


def landscape_of(
    problem: LinearProblem, solution: LeastSquares, strategy: tf.distribute.Strategy
) -> convergence.Landscape:
    """Returns the basis of the learning rates, with the same numbers on every worker.

    Every worker has solved the problem, but hosts may round differently. Rates that differ in their
    last place would let the replicas' copies drift apart, so all use those of the first worker.

    Args:
        problem: The rows.
        solution: Its solution.
        strategy: The strategy to train under.
    """
    smallest, largest = solution.curvatures
    numbers = [smallest, largest, problem.largest_square, solution.loss]
    return convergence.Landscape(*tfscale.broadcast_value(strategy, numbers))


def _refuse_wrong_flags() -> None:
    if FLAGS.shard and "averaged" in FLAGS.optimizers.split(","):
        raise ValueError(
            "`--shard` must be 0 with averaged among --optimizers, because its replicas step by "
            f"themselves, each with a whole model. Received: --shard={FLAGS.shard}. Leave it out, "
            "or pass --optimizers=sgd,adam."
        )
    if FLAGS.num_rows % FLAGS.global_batch_size:
        size = FLAGS.global_batch_size
        raise ValueError(
            f"`--num_rows` must be a multiple of --global_batch_size={size}, because a step of "
            f"gradient descent is the mean of equal batches. Received: "
            f"--num_rows={FLAGS.num_rows}. Use {max(1, round(FLAGS.num_rows / size)) * size}."
        )


def _epsilon(policy: keras.DTypePolicy) -> float:
    """The distance between 1 and the next number that a linear model computes in."""
    if policy.compute_dtype not in ("float32", "float64"):
        raise ValueError(
            "`--precision` must be float64 or float32: distances here are far below the resolution "
            f"of half precision. Received: --precision={FLAGS.precision}, which is "
            f"{policy.name} here. Use --precision=float64."
        )
    return float(np.finfo(policy.compute_dtype).eps)


def main(_: Sequence[str]) -> None:
    """Solves the problem, trains in all ways, and writes the results."""
    started = time.monotonic()
    _refuse_wrong_flags()
    problem = flagged_problem()
    strategy = common_flags.strategy()
    is_chief = strategies.is_chief(strategy)
    epsilon = _epsilon(tfscale.set_precision(FLAGS.precision, strategy))
    batches = batches_of(problem, strategy)
    model_dir = FLAGS.model_dir or "runs/linear_regression"
    if is_chief:
        results.make_writable(model_dir)

    solution = least_squares(problem.chunks())
    landscape = landscape_of(problem, solution, strategy)
    solving_seconds = time.monotonic() - started
    if is_chief:
        condition = landscape.largest / landscape.smallest
        print(
            f"least squares: {problem.num_rows} rows, {problem.num_features} features, condition "
            f"{condition:.3g}, loss {solution.loss:.4g}, {solving_seconds:.1f} s"
        )
        print(methods.HEADING, flush=True)
    outcomes = []
    planned = methods.planned(
        landscape,
        steps_per_epoch=batches.steps_per_epoch,
        epochs=FLAGS.train_epochs,
        global_batch_size=FLAGS.global_batch_size,
        num_replicas=strategy.num_replicas_in_sync,
        average_every=FLAGS.average_every,
        adam_rate=FLAGS.learning_rate,
        epsilon=epsilon,
    )
    for name in dict.fromkeys(FLAGS.optimizers.split(",")):
        outcome = methods.train(planned[name], batches, solution, epochs=FLAGS.train_epochs)
        outcomes.append(outcome)
        if is_chief:
            print(methods.table_line(outcome), flush=True)
    if not is_chief:
        return
    timing = Timing(
        total_seconds=time.monotonic() - started,
        training_seconds=sum(outcome.seconds for outcome in outcomes),
        global_batch_size=FLAGS.global_batch_size,
    )
    summary = {
        "least_squares": {
            "coefficients": solution.coefficients.tolist(),
            "loss": solution.loss,
            "landscape": dataclasses.asdict(landscape),
            "true_coefficients": problem.coefficients.tolist(),
            "distance_of_true_coefficients": solution.distance(problem.coefficients),
        },
        "optimizers": {outcome.method.name: outcome.record() for outcome in outcomes},
        "num_replicas": strategy.num_replicas_in_sync,
        "total_seconds": timing.total_seconds,
        "flags": flag_sections.values(),
    }
    record = run_record(
        "Least squares by steps",
        strategy,
        results={f"distance_of_{o.method.name}": o.distances[-1] for o in outcomes},
        timing=timing,
        curves=[
            Curve(
                "distance to the least-squares solution",
                {outcome.method.name: outcome.distances for outcome in outcomes},
                x_name="epoch",
                first=0,
                scale="log",
            )
        ],
        notes=[methods.reading(outcome) for outcome in outcomes],
    )
    results.write(model_dir, None, summary, record)
    print(f"model directory: {model_dir}")
    print(f"report: {model_dir}/{REPORT_FILE}")


if __name__ == "__main__":
    define_flags()
    entry_point.run(main)
