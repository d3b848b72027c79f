"""The creation patch: variables that a replica's step makes are made for all replicas, at once.

A model that is not built before its first step makes its variables while the step is traced,
inside the first replica, and TensorFlow cannot lift them out of that graph: `InvalidArgumentError`
(C17). Here they are made outside of the graph, in the strategy's scope. Replicas are traced one
after the other up to the first collective, and a layer is built in one go, so the other replicas
find it built.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute import distribute_lib

from strategies.keras_support.input.data_draws import is_in_dataset
from strategies.keras_support.model.model_parts import all_layers
from strategies.keras_support.patching.ownership import is_asynchronous, is_owned


@contextlib.contextmanager
def _for_all_replicas() -> Iterator[None]:
    """Leaves the graph of a replica's step, or of a dataset's function, for the strategy's scope.

    Elsewhere does nothing.
    """
    strategy = tf.distribute.get_strategy()
    if (
        not is_owned(strategy)
        or is_asynchronous(strategy)
        or isinstance(strategy, tf.distribute.OneDeviceStrategy)
        or tf.executing_eagerly()
        or (tf.distribute.in_cross_replica_context() and not is_in_dataset())
    ):
        yield
        return
    with tf.init_scope():
        # As a merge_call does, but without meeting the other replicas.
        distribute_lib._push_per_thread_mode(distribute_lib._CrossReplicaThreadMode(strategy))
        try:
            with strategy.scope():
                yield
        finally:
            distribute_lib._pop_per_thread_mode()


def made_for_all_replicas(initialize: Any) -> Any:
    """Stands in for `Variable._initialize`: leaves a replica's step before it makes one."""

    @functools.wraps(initialize)
    def initialize_for_all(self: Any, *arguments: Any) -> None:
        with _for_all_replicas():
            initialize(self, *arguments)

    return initialize_for_all


def has_unbuilt_layers(model: Any) -> bool:
    """Tells whether a step of `model` may make variables of its layers."""
    return not all(layer.built for layer in all_layers(model) if layer is not model)
