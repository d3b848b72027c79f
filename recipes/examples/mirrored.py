"""Trains on two replicas and reaches the weights of one device.

python -m recipes.examples.mirrored
"""

import keras
import numpy as np

import strategies

# Two GPUs where there are two, otherwise two logical CPUs. Build it before TensorFlow is used.
two_replicas = strategies.mirrored_strategy(num_replicas=2)
one_device = strategies.one_device_strategy()
x = np.random.default_rng(seed=0).normal(size=(500, 8))


def train(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.01, global_clipnorm=1.0), "mse")
    model.fit(x, x.sum(axis=1), batch_size=32, epochs=5, verbose=0)
    return model.get_weights()


pairs = zip(train(two_replicas), train(one_device), strict=True)
difference = max(abs(two - one).max() for two, one in pairs)
print(f"largest difference between the weights: {difference:.1e}")
