"""Interrupts a training in the middle of an epoch, and resumes it at the batch.

python -m recipes.examples.resume
"""

import contextlib
import tempfile

import keras
import numpy as np

import strategies
import tfscale

strategy = strategies.mirrored_strategy(num_replicas=2)
x = np.random.default_rng(seed=0).normal(size=(640, 8))
data = tfscale.data.input_pipeline((x, x.sum(axis=1)), strategy, global_batch_size=64)


def interrupt(batch, logs):
    if batch == 6:
        raise KeyboardInterrupt


def train(folder, *callbacks):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input([8]), keras.layers.Dense(32), keras.layers.Dense(1)])
        model.compile("adam", "mse")
    checkpoint = tfscale.callbacks.Checkpoint(folder, every=4)
    model.fit(data, epochs=3, verbose=0, callbacks=[checkpoint, *callbacks])
    return model.get_weights(), checkpoint.resumed_from


with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as cut:
    expected, _ = train(whole)
    with contextlib.suppress(KeyboardInterrupt):
        train(cut, keras.callbacks.LambdaCallback(on_train_batch_end=interrupt))
    weights, position = train(cut)
print(f"resumed at {position}, same weights: {all(map(np.allclose, weights, expected))}")
