"""Builds the inputs and the model of the image recipe from its flags."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from absl import flags

import tfscale
from recipes import common_flags
from recipes.images.augmentation import augmentation
from recipes.images.model import compiled_model, smooth_labels, to_float
from recipes.images.sets import AnyImageSet, find_image_set
from recipes.images.validation import held_out, train_rows
from tfscale.data import Pipeline

FLAGS = flags.FLAGS


def flagged_image_set() -> AnyImageSet:
    """Finds the set that the flags name."""
    return find_image_set(FLAGS.dataset, data_dir=FLAGS.data_dir, image_size=FLAGS.image_size)


def pipelines(
    image_set: AnyImageSet, strategy: tf.distribute.Strategy
) -> tuple[Pipeline, Pipeline]:
    """Builds the training input and the test input that the flags describe."""
    smoothing, classes = FLAGS.label_smoothing, image_set.num_classes
    train = tfscale.data.input_pipeline(
        train_rows(image_set)[0],
        strategy,
        global_batch_size=FLAGS.global_batch_size,
        seed=FLAGS.seed,
        preprocess=smooth_labels(classes, smoothing) if smoothing else to_float,
        augment=augmentation(image_set.image_shape, strength=FLAGS.augmentation, flips=FLAGS.flips),
    )
    test = _evaluated(image_set.read("test"), image_set.num_examples("test"), image_set, strategy)
    return train, test


def validation_pipeline(
    image_set: AnyImageSet, strategy: tf.distribute.Strategy
) -> Pipeline | None:
    """Builds the input of the rows that --validation holds out; None if it holds out none."""
    rows = train_rows(image_set)[1]
    return None if rows is None else _evaluated(rows, held_out(image_set), image_set, strategy)


def _evaluated(
    rows: Any, count: int, image_set: AnyImageSet, strategy: tf.distribute.Strategy
) -> Pipeline:
    replicas = strategy.num_replicas_in_sync
    is_smooth = FLAGS.label_smoothing > 0
    return tfscale.data.input_pipeline(
        rows,
        strategy,
        # The result does not depend on it, and a split may be smaller than a training batch.
        global_batch_size=min(FLAGS.global_batch_size, count // replicas * replicas),
        shuffle=False,
        preprocess=smooth_labels(image_set.num_classes, 0.0) if is_smooth else to_float,
    )


def flagged_model(image_set: AnyImageSet, num_steps: int) -> keras.Model:
    """Builds and compiles the model that the flags describe. Call it in the strategy's scope.

    Args:
        image_set: The set to classify.
        num_steps: Optimizer updates of the whole training. Positive.
    """
    return compiled_model(
        image_set,
        common_flags.optimizer(num_steps, weight_decay=FLAGS.weight_decay, momentum=FLAGS.momentum),
        dropout=FLAGS.dropout,
        has_soft_labels=FLAGS.label_smoothing > 0,
    )


def model_and_data() -> tuple[keras.Model, Pipeline]:
    """Builds model and training input for `tfscale preflight`. Call it in the strategy's scope."""
    strategy = tf.distribute.get_strategy()
    image_set = flagged_image_set()
    tfscale.set_precision(FLAGS.precision, strategy)
    image_set.prepare(shows_progress=False)
    train, _ = pipelines(image_set, strategy)
    num_steps = common_flags.train_steps(train.steps_per_epoch)
    model = tfscale.prepare(
        lambda: flagged_model(image_set, num_steps),
        strategy,
        precision=FLAGS.precision,
        microbatches=FLAGS.microbatches,
    )
    return model, train
