"""Trains on all cores of a Cloud TPU VM in bfloat16. Raises a ValueError without a TPU.

python -m recipes.examples.tpu
"""

import keras
import numpy as np

import strategies
import tfscale

strategy = strategies.tpu_strategy()  # first in the program: it initialises the TPU
tfscale.set_precision("auto", strategy)  # mixed_bfloat16 here

x = np.random.default_rng(seed=0).normal(size=(4096, 8)).astype("float32")
data = tfscale.data.input_pipeline(
    (x, x.sum(axis=1)),
    strategy,
    global_batch_size=512,
    drop_remainder=True,  # one shape: each shape is compiled
)

with strategy.scope():
    model = keras.Sequential(
        [keras.layers.Dense(128, "relu"), keras.layers.Dense(1, dtype="float32")]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", steps_per_execution=8)
losses = model.fit(data, epochs=5, verbose=0).history["loss"]

print(f"{strategy.num_replicas_in_sync} replicas, loss {losses[0]:.3f} -> {losses[-1]:.3f}")
