"""Computes in float16 with a scaled loss, and keeps the weights in float32.

python -m recipes.examples.mixed_precision
"""

import keras
import numpy as np

import strategies
import tfscale

strategy = strategies.mirrored_strategy(num_replicas=2)
# "auto" takes bfloat16 where the devices have units for it, and float32 on CPUs.
policy = tfscale.set_precision("mixed_float16", strategy)
x = np.random.default_rng(seed=0).normal(size=(512, 8))

with strategy.scope():
    model = keras.Sequential(
        [
            keras.layers.Dense(32, "relu"),
            keras.layers.Dense(1, dtype="float32"),  # the loss needs all digits
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
losses = model.fit(x, x.sum(axis=1), batch_size=64, epochs=5, verbose=0).history["loss"]

print(f"{policy.name}, {model.weights[0].dtype} weights, loss {losses[0]:.2f} -> {losses[-1]:.2f}")
