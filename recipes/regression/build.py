"""Builds the rows and the model of the regression recipe from its flags."""

from __future__ import annotations

import keras
import tensorflow as tf
from absl import flags

import tfscale
from recipes.regression.problem import LinearProblem
from tfscale.data import Pipeline

FLAGS = flags.FLAGS


def flagged_problem() -> LinearProblem:
    """Returns the problem that the flags describe; no row is generated yet."""
    return LinearProblem(
        FLAGS.num_rows, FLAGS.num_features, FLAGS.condition, FLAGS.noise, FLAGS.seed
    )


def batches_of(problem: LinearProblem, strategy: tf.distribute.Strategy) -> Pipeline:
    """Builds the input that the flags describe."""
    return tfscale.data.input_pipeline(
        tf.data.Dataset.range(problem.num_rows),
        strategy,
        global_batch_size=FLAGS.global_batch_size,
        seed=FLAGS.seed,
        drop_remainder=True,  # there is no remainder; this makes the batch size static
        preprocess=problem.rows,
    )


def linear_model(
    num_features: int, optimizer: keras.optimizers.Optimizer, steps_per_execution: int = 1
) -> keras.Model:
    """Builds and compiles a linear model with coefficients of 0. Call it in the strategy's scope.

    Args:
        num_features: Features of a row. Positive.
        optimizer: The optimizer.
        steps_per_execution: Keras's argument of that name.
    """
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((num_features,)), layer])
    model.compile(optimizer, "mse", steps_per_execution=steps_per_execution)
    return model


def model_and_data() -> tuple[keras.Model, Pipeline]:
    """Builds a model with Adam and its input, for `tfscale preflight`. Call it in the scope."""
    strategy = tf.distribute.get_strategy()
    tfscale.set_precision(FLAGS.precision, strategy)
    problem = flagged_problem()
    model = linear_model(problem.num_features, keras.optimizers.Adam(FLAGS.learning_rate))
    return model, batches_of(problem, strategy)
