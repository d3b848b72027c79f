"""Builds the inputs and the model of the image recipe from its flags."""

from __future__ import annotations

import keras
import tensorflow as tf
from absl import flags

import tfscale
from recipes import common_flags
from recipes.images.augmentation import augmentation
from recipes.images.model import compiled_model, smooth_labels, to_float
from recipes.images.sets import AnyImageSet, find_image_set
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
        image_set.read("train"),
        strategy,
        global_batch_size=FLAGS.global_batch_size,
        seed=FLAGS.seed,
        preprocess=smooth_labels(classes, smoothing) if smoothing else to_float,
        augment=augmentation(image_set.image_shape, strength=FLAGS.augmentation, flips=FLAGS.flips),
    )
    replicas = strategy.num_replicas_in_sync
    whole_batches = image_set.num_examples("test") // replicas * replicas
    test = tfscale.data.input_pipeline(
        image_set.read("test"),
        strategy,
        # The result does not depend on it, and a test split may be smaller than a training batch.
        global_batch_size=min(FLAGS.global_batch_size, whole_batches),
        shuffle=False,
        preprocess=smooth_labels(classes, 0.0) if smoothing else to_float,
    )
    return train, test


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
