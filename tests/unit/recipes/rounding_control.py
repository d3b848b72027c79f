"""How far rounding moves 20 steps of stock Keras on one device, in float32.

python -m tests.unit.recipes.rounding_control DATA_DIR GLOBAL_BATCH_SIZE FOLDER

Trains the recipe's model on its batches with no strategy of ours: on the rows of each batch in
their order ("in_order"), and in others ("permuted_0", ...). The sums over a batch are the same
numbers added up in another order. One other order is not enough: of 8, 3 ended 1e-7 away, and 5
ended 3e-5 away. Saves each model as FOLDER/NAME/model.keras.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from recipes.images.model import compiled_model, to_float
from recipes.images.sets import find_image_set
from tfscale.data import input_pipeline

NUM_ORDERS = 5


def permute(seed: int) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    def permuted(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(labels)[0]), [seed, 0])
        return tf.gather(images, order), tf.gather(labels, order)

    return permuted


def main() -> None:
    data_dir, global_batch_size, folder = sys.argv[1:]
    image_set = find_image_set("digits", data_dir=data_dir)
    image_set.prepare(shows_progress=False)
    pipeline = input_pipeline(
        image_set.read("train"),
        tf.distribute.OneDeviceStrategy("CPU:0"),
        global_batch_size=int(global_batch_size),
        preprocess=to_float,
    )
    orders = {f"permuted_{seed}": permute(seed) for seed in range(NUM_ORDERS)}
    for name, order in {"in_order": None, **orders}.items():
        keras.utils.set_random_seed(0)
        steps = pipeline.steps_per_epoch
        # With a NumPy float64 Keras computes the schedule in float64, as the recipe does.
        schedule = keras.optimizers.schedules.CosineDecay(np.float64(3e-3), steps)
        model = compiled_model(image_set, keras.optimizers.Adam(schedule), dropout=0.0)
        batches = pipeline.local(0)
        model.fit(batches.map(order) if order else batches, steps_per_epoch=steps, verbose=0)
        assert int(model.optimizer.iterations) == steps
        path = Path(folder, name)
        path.mkdir()
        model.save(path / "model.keras")


if __name__ == "__main__":
    main()
