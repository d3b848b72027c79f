"""Builds the rows and the model of the recommendation recipe from its flags."""

from __future__ import annotations

from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import tfscale
from recipes import common_flags
from recipes.ratings.generated import GeneratedClicks
from recipes.ratings.model import two_towers
from recipes.ratings.movielens import read_movielens
from tfscale.data import Pipeline

FLAGS = flags.FLAGS
GENERATED = "generated"


class Ratings(Protocol):
    """Ratings for training and testing: `GeneratedClicks` or `MovieLens`.

    Attributes:
        num_users: Users.
        num_items: Items.
        source: The source of a pipeline, which shuffles it.
        rows: Makes rows from elements of the source; None if the elements are rows.
        best_scores: Scores of the best possible ranking, or None if it is unknown.
        gains: Value of each item for each user, not negative, [num_users, num_items].
    """

    num_users: Any
    num_items: Any
    source: Any
    rows: Any
    best_scores: Any
    gains: Any

    def relevant(self, k: int) -> np.ndarray:
        """Returns which items a user should find among the first `k`."""

    def test_rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns users, items and clicks for testing."""


def flagged_ratings() -> Ratings:
    """Returns the rows that the flags describe."""
    ratings: Any
    if FLAGS.dataset == GENERATED:
        ratings = GeneratedClicks(FLAGS.num_users, FLAGS.num_items, FLAGS.num_rows, FLAGS.seed)
    else:
        ratings = read_movielens(FLAGS.dataset, data_dir=FLAGS.data_dir, seed=FLAGS.seed)
    found: Ratings = ratings
    return found


def batches_of(ratings: Ratings, strategy: tf.distribute.Strategy) -> Pipeline:
    """Builds the input that the flags describe."""
    return tfscale.data.input_pipeline(
        ratings.source,
        strategy,
        global_batch_size=FLAGS.global_batch_size,
        seed=FLAGS.seed,
        drop_remainder=True,  # so that every step has the same number of samples on every worker
        preprocess=ratings.rows,
    )


def flagged_model(ratings: Ratings, num_steps: int) -> keras.Model:
    """Builds and compiles the model that the flags describe. Call it in the strategy's scope.

    Args:
        ratings: The ratings to train on.
        num_steps: Optimizer updates of the whole training. Positive.
    """
    model = two_towers(
        ratings.num_users,
        ratings.num_items,
        embedding_dim=FLAGS.embedding_dim,
        num_shards=FLAGS.num_shards,
        seed=FLAGS.seed,
    )
    compile_flagged(model, num_steps)
    return model


def compile_flagged(model: keras.Model, num_steps: int) -> None:
    """Compiles a model as the flags describe. Call it in the strategy's scope.

    Args:
        model: From users and items to logits.
        num_steps: Optimizer updates of the whole training. Positive.
    """
    optimizer = tfscale.optimizers.optimizer_by_name(
        FLAGS.optimizer, common_flags.schedule(num_steps), clip_norm=FLAGS.gradient_clip_norm
    )
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))


def model_and_data() -> tuple[keras.Model, Pipeline]:
    """Builds model and training input for `tfscale preflight`. Call it in the strategy's scope."""
    strategy = tf.distribute.get_strategy()
    tfscale.set_precision(FLAGS.precision, strategy)
    ratings = flagged_ratings()
    train = batches_of(ratings, strategy)
    return flagged_model(ratings, FLAGS.train_epochs * train.steps_per_epoch), train
