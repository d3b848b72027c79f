"""A worker's update of variables on the servers, from wherever in its step it is made.

TensorFlow updates a variable through a merge of all replicas, also where there is one alone, and
refuses that inside a condition. Loss scaling, averages of weights and others of Keras's optimizers
decide by conditions whether they update.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf


@contextlib.contextmanager
def without_merging(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Lets the one replica of a worker update variables where it is.

    Args:
        strategy: A parameter server strategy, of workers with one replica.
    """
    extended = strategy.extended

    def update(var: Any, fn: Any, args: Any = (), kwargs: Any = None, group: bool = True) -> Any:
        return extended._update(var, fn, args, kwargs or {}, group)

    extended._replica_ctx_update = update
    try:
        yield
    finally:
        del extended._replica_ctx_update
