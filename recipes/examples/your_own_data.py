"""Trains on your own records, read by `tf.data`: each once an epoch, on any number of replicas.

python -m recipes.examples.your_own_data
"""

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale

strategy = strategies.mirrored_strategy(num_replicas=2)


def parse(line):
    *features, target = tf.io.decode_csv(line, record_defaults=[0.0] * 4)
    return tf.stack(features), target


def scale(batch):
    features, target = batch  # a replica's rows of the global batch
    return features / 100, target


with tempfile.TemporaryDirectory() as folder:
    path = str(Path(folder, "measurements.csv"))
    rows = np.random.default_rng(seed=0).normal(scale=100, size=(500, 3))
    np.savetxt(path, np.c_[rows, rows.sum(axis=1) / 100], delimiter=",")
    records = tf.data.TextLineDataset(path).map(parse)
    records = records.apply(tf.data.experimental.assert_cardinality(500))
    data = tfscale.data.input_pipeline(records, strategy, 64, preprocess=scale)
    with strategy.scope():
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.1), "mse")
    losses = model.fit(data, epochs=5, verbose=0).history["loss"]
print(f"{data.steps_per_epoch} steps an epoch, loss {losses[0]:.2f} -> {losses[-1]:.2f}")
