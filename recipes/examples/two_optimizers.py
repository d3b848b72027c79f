"""Trains a generator and a discriminator, each with its own optimizer, on two replicas.

python -m recipes.examples.two_optimizers
"""

import keras
import numpy as np
import tensorflow as tf

import strategies


class GAN(keras.Model):
    def __init__(self):
        super().__init__()
        dense = keras.layers.Dense
        self.generator = keras.Sequential([keras.Input([4]), dense(2)])
        self.discriminator = keras.Sequential([keras.Input([2]), dense(16, "relu"), dense(1)])
        self.generator.compile(keras.optimizers.Adam(0.01, beta_1=0.5))
        self.discriminator.compile(keras.optimizers.Adam(0.02, beta_1=0.5))

    def train_step(self, real):
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator(tf.random.normal([tf.shape(real)[0], 4]))
            on_real, on_fake = self.discriminator(real), self.discriminator(fake)
            d_loss = tf.reduce_mean(tf.nn.softplus(-on_real) + tf.nn.softplus(on_fake))
            g_loss = tf.reduce_mean(tf.nn.softplus(-on_fake))
        for part, loss in (self.discriminator, d_loss), (self.generator, g_loss):
            gradients = tape.gradient(loss, part.trainable_variables)
            part.optimizer.apply(gradients, part.trainable_variables)
        return {"d_loss": d_loss, "g_loss": g_loss}


keras.utils.set_random_seed(0)
with strategies.mirrored_strategy(num_replicas=2).scope():
    model = GAN()
    model.compile()
model.fit(np.random.normal([3, -2], size=(640, 2)), batch_size=64, epochs=60, verbose=0)
fake = model.generator.predict(np.random.normal(size=(10_000, 4)), verbose=0)
print(f"mean of the data: about [3, -2], of generated data: {fake.mean(axis=0)}")
