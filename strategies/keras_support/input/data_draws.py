"""Draws inside tf.data: functions of a dataset count with a variable of their own.

A seed generator that is made in the scope of several replicas counts its draws in a mirrored
variable, which a dataset's function cannot hold: `UnliftableError` (C18). So a generator gets a
plain variable beside it when a dataset's function first draws, with the count of that moment. From
then on every draw outside of the replicas' steps counts there, in the order of one device.
"""

from __future__ import annotations

import copy
import weakref
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops

from strategies.keras_support.patching.ownership import is_owned

_BESIDE: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def is_in_dataset() -> bool:
    """Tells whether what is being traced is a function of a dataset, such as of `map`."""
    graph: Any = tf.compat.v1.get_default_graph()
    while graph is not None:
        if str(getattr(graph, "name", "")).startswith("Dataset_"):  # of Dataset.map, .scan, ...
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def generator_of_data(generator: Any) -> Any:
    """Returns the generator to draw from here in place of `generator`, which may be itself.

    Args:
        generator: A `keras.random.SeedGenerator`.
    """
    state = generator.state._value
    if not isinstance(state, tf.distribute.DistributedValues):
        return generator
    if not is_owned(getattr(state, "distribute_strategy", None)):
        return generator
    if is_in_dataset():
        if generator not in _BESIDE:
            _BESIDE[generator] = _beside(generator)
        return _BESIDE[generator]
    replica = tf.distribute.get_replica_context()
    is_in_step = replica is not None and is_owned(replica.strategy)
    return generator if is_in_step else _BESIDE.get(generator, generator)


def _beside(generator: Any) -> Any:
    """Returns a generator that goes on from the count of `generator`, in a plain variable."""
    with tf.init_scope(), tf.device("CPU:0"):
        first = generator.state._value.values[0]
        # `tf.Variable` would be mirrored in the scope.
        plain = resource_variable_ops.ResourceVariable(first.numpy(), trainable=False)
    beside = copy.copy(generator)
    beside.state = copy.copy(generator.state)
    beside.state._value = plain
    return beside
