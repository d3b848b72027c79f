"""The effect of staleness on the digits recipe, on one device in a plain loop.

python -m tests.asynchronous.staleness --seeds=3

Two ways are compared. In the first, each gradient is taken at the weights that it is applied to. In
the second, two gradients are taken at the same weights and applied one after the other: a staleness
of 0 and 1 in turn, half an update on average, as with two workers of equal speed. Batches, model
and optimizer are the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import strategies
from recipes import common_flags, image_classification
from recipes.images.build import flagged_model, pipelines
from recipes.images.sets import find_image_set


def main() -> int:
    """Prints a row per training."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    image_classification.define_flags()
    flags.FLAGS([sys.argv[0], "--dataset=digits"])
    print("| seed | gradients at the same weights | last quarter | all epochs |")
    print("|---|---|---|---|")
    for seed in range(arguments.seeds):
        flags.FLAGS["seed"].value = seed
        for at_once in (1, 2):
            losses = epoch_losses(seed, at_once)
            last = statistics.fmean(losses[-len(losses) // 4 :])
            print(f"| {seed} | {at_once} | {last:.4f} | {statistics.fmean(losses):.4f} |")
    return 0


def epoch_losses(seed: int, at_once: int) -> list[float]:
    """Trains the recipe's model on the recipe's batches; returns the mean loss of each epoch.

    Args:
        seed: Of the weights, the dropout and the order.
        at_once: Number of gradients that are taken at the same weights.
    """
    image_set = find_image_set("digits", data_dir=None)
    image_set.prepare(shows_progress=False)
    train, _ = pipelines(image_set, strategies.one_device_strategy("CPU:0"))
    num_steps = common_flags.train_steps(train.steps_per_epoch)
    keras.utils.set_random_seed(seed)
    model = flagged_model(image_set, num_steps)
    weights = model.trainable_variables
    model.optimizer.build(weights)

    @tf.function
    def gradients(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        return loss, tape.gradient(loss, [weight.value for weight in weights])

    apply = tf.function(lambda taken: model.optimizer.apply(taken, weights))
    losses, waiting = [], []
    for x, y in train.local(0).take(num_steps):
        loss, taken = gradients(x, y)
        losses.append(float(loss))
        waiting.append(taken)
        if len(waiting) == at_once:
            for taken in waiting:
                apply(taken)
            waiting = []
    return [float(loss) for loss in np.reshape(losses, [-1, train.steps_per_epoch]).mean(axis=1)]


if __name__ == "__main__":
    sys.exit(main())
