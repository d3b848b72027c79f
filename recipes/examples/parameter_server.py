"""Trains asynchronously: each worker steps at its own pace, and the weights are on a server.

tfscale launch --num_workers=2 --num_ps=1 -- python -m recipes.examples.parameter_server
"""

import keras
import numpy as np

import strategies
import tfscale

# Workers and servers stay in this call until the chief is done. Only the chief goes on.
strategy = strategies.parameter_server_strategy()

x = np.random.default_rng(seed=0).normal(size=(640, 8))
data = tfscale.data.input_pipeline((x, x.sum(axis=1)), strategy, global_batch_size=64)

with strategy.scope():
    model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
losses = model.fit(data, epochs=5, verbose=0).history["loss"]

steps = int(model.optimizer.iterations)
print(f"{steps} steps of two workers, loss {losses[0]:.3f} -> {losses[-1]:.3f}")
