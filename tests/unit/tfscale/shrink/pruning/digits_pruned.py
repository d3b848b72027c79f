r"""Program: the network of the image recipe on the digits, dense and pruned, for several seeds.

    python -m tests.unit.tfscale.shrink.pruning.digits_pruned \
        DATA SEEDS PATTERN SPARSITY SCOPE SPLIT

Trains as recipes/flags/laptop.flags does: 40 epochs on two replicas. Prints a line of JSON for each
seed: the accuracies on other images, and the fraction of zeros in the kernels. With the SPLIT
"test" these are the test images. To choose something, use "held_out": a fifth of the training
images, another one for each of five seeds.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from recipes.images.augmentation import augmentation
from recipes.images.model import compiled_model, to_float
from recipes.images.sets import find_image_set
from tfscale.shrink import CubicSparsity, Prune

BATCH, EPOCHS, RATE = 96, 40, 0.003


def sources(image_set: Any, split: str, seed: int) -> tuple[Any, Any]:
    """Returns the images to train on, and those to test."""
    if split == "test":
        return image_set.read("train"), image_set.read("test")
    loaded = [*image_set.read("train").as_numpy_iterator()]
    images, labels = (np.array(each) for each in zip(*loaded, strict=True))
    is_held_out = np.random.default_rng(0).permutation(len(labels)) % 5 == seed % 5
    return (
        (images[~is_held_out], labels[~is_held_out]),
        (images[is_held_out], labels[is_held_out]),
    )


def accuracy(images: Any, image_set: Any, seed: int, *callbacks: Any) -> tuple[float, float]:
    """Trains and returns the accuracy on other images, and the fraction of zeros in kernels."""
    keras.utils.clear_session()
    strategy = strategies.mirrored_strategy(2)
    train = tfscale.data.input_pipeline(
        images[0],
        strategy,
        global_batch_size=BATCH,
        seed=seed,
        preprocess=to_float,
        augment=augmentation(image_set.image_shape, strength=1.0, flips=False),
    )
    keras.utils.set_random_seed(seed)
    steps = EPOCHS * train.steps_per_epoch
    with strategy.scope():
        rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
        model = compiled_model(image_set, keras.optimizers.Adam(rate), dropout=0.4)
    model.fit(train, epochs=EPOCHS, verbose=0, callbacks=[*callbacks])
    test = tfscale.data.input_pipeline(
        images[1], strategy, global_batch_size=90, shuffle=False, preprocess=to_float
    )
    kernels = [v.numpy() for v in model.trainable_variables if v.name == "kernel"]
    zeros = sum(int(np.sum(kernel == 0)) for kernel in kernels)
    return model.evaluate(test, verbose=0)[1], zeros / sum(kernel.size for kernel in kernels)


def main() -> None:
    data_dir, seeds, pattern, sparsity, scope, split = sys.argv[1:]
    strategies.mirrored_strategy(2)  # before TensorFlow starts
    image_set = find_image_set("digits", data_dir=data_dir)
    image_set.prepare(shows_progress=False)
    num_images = image_set.num_examples("train") * (1 if split == "test" else 0.8)
    steps = EPOCHS * math.ceil(num_images / BATCH)
    for seed in range(int(seeds)):
        tf.random.set_seed(seed)
        images = sources(image_set, split, seed)
        dense, _ = accuracy(images, image_set, seed)
        # Half of the training is left for what was not pruned.
        begin = steps // 10
        end = begin + (steps // 2 - begin) // 20 * 20
        schedule = CubicSparsity(float(sparsity), begin=begin, end=end, every=20)
        # The first kernel has one input channel, so 2:4 leaves it alone.
        keep = ["conv2d"] if ":" in pattern else []
        prune = Prune(schedule, pattern=pattern, scope=scope, keep=keep)
        pruned, zeros = accuracy(images, image_set, seed, prune)
        found = {"seed": seed, "dense": dense, "pruned": pruned, "zeros": zeros}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
