"""Program: trains under several strategies and prints all results, for test_installation.

    python plain_training.py [stock | supported]

"stock" trains under no strategy and under a plain tf.distribute.MirroredStrategy. "supported"
builds one of our strategies first, so that the fixes are installed, trains the same two, and then
under ours.
"""

from __future__ import annotations

import json
import sys

import keras
import numpy as np
import tensorflow as tf


def train(strategy: tf.distribute.Strategy) -> list[str]:
    """Clips, accumulates masked losses and splits unevenly, which fixes change."""
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=[22, 4, 3]), draw.normal(size=[22, 4, 1])
    x[:, 2:] *= draw.integers(0, 2, size=[22, 2, 1])
    with strategy.scope():
        layers = [keras.Input((4, 3)), keras.layers.Masking(), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.Adam(0.1, clipnorm=0.01), "mse", metrics=["mae"])
    history = model.fit(x, y, batch_size=10, epochs=2, shuffle=False, verbose=0).history
    evaluated = model.evaluate(x, y, batch_size=10, verbose=0)
    predicted = model.predict(x, batch_size=10, verbose=0)
    numbers = [*model.get_weights(), evaluated, predicted, list(history.values())]
    return [np.asarray(array, np.float64).tobytes().hex() for array in numbers]


def main() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    # One thread: sums must be the same to the last bit.
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    trainings: dict[str, tf.distribute.Strategy] = {}
    if sys.argv[1] == "supported":
        import strategies

        # The second one: see test_mirrored on the collective keys of the first.
        strategies.mirrored_strategy(2)
        trainings["ours"] = strategies.mirrored_strategy(2)
    trainings["none"] = tf.distribute.get_strategy()
    trainings["own"] = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    print(json.dumps({name: train(strategy) for name, strategy in trainings.items()}))


if __name__ == "__main__":
    main()
