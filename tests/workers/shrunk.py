"""Training that prunes, clusters, rounds and adapts integers, for a job of two workers."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tests.unit.strategies.keras_support.beside_one_device import on_strategy
from tests.unit.tfscale.shrink.clustering.clustered_by_hand import VALUES, slow, sparse_network
from tests.unit.tfscale.shrink.distillation import distilled_training
from tests.unit.tfscale.shrink.pruning.pruned_by_hand import fitted, network, sgd
from tests.unit.tfscale.shrink.quantization import adapted_training
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


def adapted(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """In float32; in the last batch one row is left, so one worker has none."""
    found: Found = {}
    for mode in ("int8", "int4"):
        adapting = functools.partial(adapted_training.trained, mode=mode, batch_size=7)
        shown = on_strategy(adapting, strategy)
        found |= {f"{mode} {name}": np.ravel(value).tolist() for name, value in shown.items()}
    return found


def distilled(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """In the last batch one row is left, so one worker has none."""
    with in_double_precision():
        shown = on_strategy(lambda on: distilled_training.trained(on, 7, True), strategy)
    return {name: np.ravel(value).tolist() for name, value in shown.items()}


def small_numbers(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """The first values of variables, which the workers ask for with values of their own."""
    with strategy.scope():
        made = {name: keras.Variable(np.array([1, 100 + index]), dtype=name) for name in SMALL}
        made |= {f"tf.{name}": tf.Variable(tf.cast([1, 100 + index], name)) for name in SMALL}
    return {name: np.array(keras.ops.cast(v, "float64")).tolist() for name, v in made.items()}


SMALL = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "bfloat16", "float16")

CASES = (pruned, clustered, small_numbers)
