"""Training that prunes, clusters and rounds; on two workers as in NumPy or on one device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tests.unit.strategies.keras_support.beside_one_device import on_strategy
from tests.unit.tfscale.shrink.clustering.clustered_by_hand import VALUES, slow, sparse_network
from tests.unit.tfscale.shrink.pruning.pruned_by_hand import fitted, network, sgd
from tests.unit.tfscale.shrink.quantization.aware_training import trained
from tests.workers.job import Found
from tfscale.shrink import Cluster, CubicSparsity, Prune


@contextlib.contextmanager
def in_double_precision() -> Iterator[None]:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def pruned(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    prune = Prune(CubicSparsity(0.75, begin=2, end=8, every=2), scope="global", score="movement")
    with in_double_precision():
        model = network(strategy, sgd(momentum=0.5), steps_per_execution=2)
        weights = fitted(model, prune)
    masks = [prune.state_arrays()[f"mask/{i}"] for i in range(2)]
    return {
        "weights": [np.ravel(weight).tolist() for weight in weights],
        "masks": [np.ravel(mask).tolist() for mask in masks],
    }


def clustered(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    cluster = Cluster(VALUES)
    with in_double_precision():
        optimizer = slow(momentum=0.5, use_ema=True, ema_momentum=0.75)
        model = sparse_network(strategy, optimizer, steps_per_execution=2)
        weights = fitted(model, cluster)
    averages = [v.numpy() for v in model.optimizer.variables if "average" in v.path]
    return {
        "weights": [np.ravel(weight).tolist() for weight in weights],
        "averages": [np.ravel(average).tolist() for average in averages],
        "values": [values.tolist() for values in cluster.codebooks().values()],
    }


def rounded(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """In the last batch one row is left, so one worker has none."""
    averaged = {"use_ema": True, "ema_momentum": 0.75}
    with in_double_precision():
        shown = on_strategy(
            lambda on: trained(on, 7, optimizer=averaged, steps_per_execution=2), strategy
        )
    return {name: np.ravel(value).tolist() for name, value in shown.items()}


CASES = (pruned, clustered)
