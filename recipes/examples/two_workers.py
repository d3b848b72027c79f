"""Trains on two workers, here two processes of one host; both end with the same weights.

tfscale launch --num_workers=2 -- python -m recipes.examples.two_workers
"""

import keras
import numpy as np

import strategies

# Finds the cluster in TF_CONFIG, which the launcher sets, or in Slurm's, MPI's or Kubernetes'
# variables.
strategy = strategies.multi_worker_mirrored_strategy()

# Every worker passes all of the data to `fit`, which takes this worker's rows of each batch.
x = np.random.default_rng(seed=0).normal(size=(500, 8))

keras.utils.set_random_seed(0)
with strategy.scope():
    model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
losses = model.fit(x, x.sum(axis=1), batch_size=32, epochs=5, verbose=0).history["loss"]

norm = sum((weight**2).sum() for weight in model.get_weights()) ** 0.5
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, norm of the weights {norm:.4f}")
