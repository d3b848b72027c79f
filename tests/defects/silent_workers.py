"""Training gives another model without an error: two workers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.defects.row import WORKERS, Findings, Run, X, Y, row, trained, visited, visits_model

ALL_24 = {"examples trained, of 24": 24}
ROWS, ZEROS = np.arange(24)[:, None], np.zeros([24, 1])


@row("S8", "arrays that each worker shuffles with a different seed", WORKERS, right=ALL_24)
def shuffled_arrays(run: Run) -> Findings:
    keras.utils.set_random_seed(run.worker)
    model = visits_model(run, 24)
    model.fit(ROWS, ZEROS, batch_size=8, verbose=0)
    return visited(model, 24)


@row(
    "S8",
    "`ds.shuffle` with a different seed on each worker",
    WORKERS,
    right=ALL_24,
    refused="the same `seed` everywhere",
)
def shuffled_dataset(run: Run) -> Findings:
    dataset = tf.data.Dataset.from_tensor_slices((ROWS, ZEROS)).shuffle(24, seed=run.worker)
    model = visits_model(run, 24)
    model.fit(dataset.batch(8), verbose=0)
    return visited(model, 24)


@row("S9", "`AutoShardPolicy.OFF`, a dataset in batches", WORKERS, right=ALL_24)
def without_auto_shard(run: Run) -> Findings:
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = tf.data.Dataset.from_tensor_slices((ROWS, ZEROS)).batch(8).with_options(options)
    model = visits_model(run, 24)
    model.fit(dataset, verbose=0)
    return visited(model, 24)


@row(
    "S10",
    "a metric made outside `scope()`",
    WORKERS,
    right={"mae": np.mean(np.abs(Y))},
    refused="under `with strategy.scope():`",
)
def stray_metric(run: Run) -> Findings:
    metric = keras.metrics.MeanAbsoluteError(name="mae")
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_initializer="zeros")])
        model.compile(keras.optimizers.SGD(0.0), "mse", metrics=[metric])  # predicts 0
    history = model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history
    return {"mae": history["mae"][0]}


def write_files(run: Run, sizes: tuple[int, ...]) -> list[str]:
    """Writes the numbers from 0 into TFRecord files of these sizes, for each worker."""
    files, first = [], 0
    for i, size in enumerate(sizes):
        files.append(str(run.folder / f"{run.worker}-{i}.tfrecord"))
        with tf.io.TFRecordWriter(files[-1]) as writer:
            for number in range(first, first + size):
                writer.write(str(number).encode())
        first += size
    return files


def numbers(record: Any) -> tuple[Any, Any]:
    """Reads one record: the number, and a target that is not used."""
    return tf.strings.to_number(tf.reshape(record, [1]), tf.int32), tf.zeros([1])


@row(
    "S15",
    "3 TFRecord files of 4, 8 and 12 examples, in batches of 8",
    WORKERS,
    right={"steps": 3, **ALL_24},
)
def unequal_files(run: Run) -> Findings:
    dataset = tf.data.TFRecordDataset(write_files(run, (4, 8, 12))).map(numbers).batch(8)
    model = visits_model(run, 24)
    model.fit(dataset, verbose=0)
    return {"steps": int(model.optimizer.iterations.numpy()), **visited(model, 24)}


@row(
    "S26",
    "weights loaded on the chief only",
    WORKERS,
    refused="or call tfscale.broadcast(model) on every worker",
)
def loaded_on_chief(run: Run) -> Findings:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_initializer="zeros")])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    if run.worker == 0:
        model.set_weights([weight + 1.0 for weight in model.get_weights()])
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return trained(model)


@row(
    "S31",
    "`x[rank::size]`: rows that the user has split by worker",
    WORKERS,
    right=ALL_24,
    refused="strategy.distribute_datasets_from_function",
)
def rows_cut(run: Run) -> Findings:
    own = slice(run.worker, None, run.strategy.num_replicas_in_sync)
    model = visits_model(run, 24)
    model.fit(ROWS[own], ZEROS[own], batch_size=4, shuffle=False, verbose=0)
    return visited(model, 24)
