"""Errors instead of training: two workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from tests.defects.row import WORKERS, Findings, Run, X, Y, row, trained, visited, visits_model
from tests.defects.silent_workers import ALL_24, ROWS, ZEROS, numbers, write_files

WIDE = 200_000
"""A file of some megabytes takes so long to write that both workers write at once."""


def _wide_model(run: Run) -> keras.Model:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(WIDE), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(1e-6), "mse")
    return model


@row("C8", "`ModelCheckpoint`, one path for both workers", WORKERS)
def checkpoint(run: Run) -> Findings:
    model = _wide_model(run)
    path = str(run.folder / "model.weights.h5")
    callback = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    model.fit(X, Y, batch_size=8, epochs=5, shuffle=False, callbacks=[callback], verbose=0)
    return trained(model)


@row("C9", "`BackupAndRestore`, one path for both workers", WORKERS)
def backup(run: Run) -> Findings:
    model = _wide_model(run)
    callback = keras.callbacks.BackupAndRestore(str(run.folder / "backup"))
    model.fit(X, Y, batch_size=8, epochs=5, shuffle=False, callbacks=[callback], verbose=0)
    return trained(model)


def _policy(name: str) -> tf.data.Options:
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy[name]
    return options


@row(
    "C10",
    "data of different lengths: 24 examples and 16",
    WORKERS,
    right=ALL_24,
    refused="Pass all workers the same data, not sharded",
)
def different_lengths(run: Run) -> Findings:
    dataset = tf.data.Dataset.from_tensor_slices((ROWS, ZEROS)).take(16 if run.worker else 24)
    model = visits_model(run, 24)
    model.fit(dataset.batch(8).with_options(_policy("OFF")), verbose=0)
    return visited(model, 24)


def _batches(count: int) -> Iterator[tuple[Any, Any]]:
    for start in range(0, 8 * count, 8):
        yield ROWS[start : start + 8], ZEROS[start : start + 8]


@row(
    "C10",
    "generators of different lengths: 3 batches and 2",
    WORKERS,
    right=ALL_24,
    refused="Give every worker the same number of global batches",
)
def different_generators(run: Run) -> Findings:
    model = visits_model(run, 24)
    model.fit(_batches(2 if run.worker else 3), verbose=0)
    return visited(model, 24)


@row("C26", "`epochs` 2 and 3", WORKERS, refused="Pass the same `epochs` on every worker")
def different_epochs(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_initializer="zeros")])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, batch_size=8, epochs=2 + run.worker, shuffle=False, verbose=0)
    return trained(model)


@row("C11", "one TFRecord file, `AutoShardPolicy.FILE`", WORKERS, right=ALL_24)
def fewer_files_than_workers(run: Run) -> Findings:
    dataset = tf.data.TFRecordDataset(write_files(run, (24,))).map(numbers).batch(8)
    model = visits_model(run, 24)
    model.fit(dataset.with_options(_policy("FILE")), verbose=0)
    return visited(model, 24)
