"""Metrics made outside of the scope are given a copy for each replica (S30).

Shared by the replicas, a metric is written by them in turn, is read in the middle of a step, and
counts the row that stands in where a replica has none. What its variables hold stays what it was.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from strategies.keras_support.patching.ownership import is_asynchronous, is_multi_worker, is_owned


def adopt_metrics(model: Any) -> None:
    """Gives the metrics of `model` that were made outside of its scope copies on all replicas.

    With several workers they are refused instead, as other objects are: see `refusals`.

    Args:
        model: A Keras model about to run under one of our strategies.
    """
    strategy = model.distribute_strategy
    if not is_owned(strategy) or strategy.num_replicas_in_sync == 1:
        return
    if is_asynchronous(strategy) or is_multi_worker(strategy):
        return
    for variable in model.metrics_variables:
        value = variable._value
        if value is None or isinstance(value, tf.distribute.DistributedValues):
            continue
        with tf.init_scope(), strategy.scope():
            held = value.read_value()
            variable._initialize(held)
            variable._value.assign(held)  # where copies are added up, divided among them
