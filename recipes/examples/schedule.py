"""Warms the learning rate up for 20 steps, then lets it fall along a cosine.

python -m recipes.examples.schedule
"""

import keras
import numpy as np

import strategies
import tfscale

strategy = strategies.mirrored_strategy(num_replicas=2)
x = np.random.default_rng(seed=0).normal(size=(640, 8))

cosine = keras.optimizers.schedules.CosineDecay(0.02, decay_steps=80)
rate = tfscale.schedules.warmup(cosine, warmup_steps=20)
with strategy.scope():
    model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.AdamW(rate), "mse")
losses = model.fit(x, x.sum(axis=1), batch_size=64, epochs=10, verbose=0).history["loss"]

rates = ", ".join(f"{float(rate(step)):.2f}" for step in (0, 10, 20, 60, 100))
print(f"rates at steps 0, 10, 20, 60, 100: {rates}; loss {losses[0]:.3f} -> {losses[-1]:.3f}")
