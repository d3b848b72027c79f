"""Large variables without memory, so that a model larger than this host can be built and traced."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import UninitializedVariable

LARGEST_ALLOCATED = 2**16
"""Bytes of the largest variable that is really made: users' functions may read small ones."""


@contextlib.contextmanager
def unallocated_variables() -> Iterator[None]:
    """Makes the variables inside that are larger than 64 KiB with a shape but without memory.

    Such a variable can be traced in a graph, which is all that planning does. Reading its value is
    an error, and assigning to it gives it memory, as loading weights does.

    The value of an initializer is not computed: its shape is found by tracing it.

    Example:
        >>> with unallocated_variables():
        ...     variable = tf.Variable(lambda: tf.zeros([100_000, 100_000]))  # 40 GB
        >>> variable.shape
        TensorShape([100000, 100000])
    """
    with tf.variable_creator_scope(_create):
        yield


def _create(next_creator: Callable[..., Any], **arguments: Any) -> Any:
    initial = arguments["initial_value"]
    if not callable(initial):
        return next_creator(**arguments)
    value = tf.function(initial, autograph=False).get_concrete_function().outputs[0]
    if value.shape.num_elements() * value.dtype.size <= LARGEST_ALLOCATED:
        return next_creator(**arguments)
    return UninitializedVariable(
        trainable=arguments.get("trainable"),
        name=arguments.get("name"),
        shape=value.shape,
        dtype=value.dtype,
        synchronization=arguments.get("synchronization"),
        aggregation=arguments.get("aggregation"),
        # Optimizers put a slot beside its variable only if both belong to one strategy.
        distribute_strategy=tf.distribute.get_strategy(),
    )
