"""Predicts on two replicas: one output for each row, in order, also for uneven batches.

python -m recipes.examples.predict
"""

import keras
import numpy as np

import strategies

strategy = strategies.mirrored_strategy(num_replicas=2)
x = np.random.default_rng(seed=0).normal(size=(101, 8)).astype("float32")

with strategy.scope():
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", "mse")
model.fit(x, x[:, :3], epochs=3, verbose=0)

predicted = model.predict(x, batch_size=32, verbose=0)  # the last batch has 5 rows

kernel, bias = model.get_weights()
difference = abs(predicted - (x @ kernel + bias)).max()
print(f"{len(predicted)} rows, largest difference from NumPy: {difference:.1e}")
