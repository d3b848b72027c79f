"""Clips and logs the gradient of the whole batch in a `train_step` written as for one device.

python -m recipes.examples.custom_train_step
"""

import keras
import numpy as np
import tensorflow as tf

import strategies

two_replicas = strategies.mirrored_strategy(num_replicas=2)
one_device = strategies.one_device_strategy()
x = np.random.default_rng(seed=0).normal(size=(500, 8))


class Clipped(keras.Sequential):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients, norm = tf.clip_by_global_norm(gradients, 0.5)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss, "norm": norm}


def last_norm(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = Clipped([keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    return model.fit(x, x.sum(axis=1), batch_size=64, epochs=5, verbose=0).history["norm"][-1]


two, one = last_norm(two_replicas), last_norm(one_device)
print(f"norm of the gradient: {two:.4f} on two replicas, {one:.4f} on one device")
