"""Random numbers: different on each replica in a step, and the same as on one device in tf.data.

A Keras seed generator is mirrored, so all replicas draw the same dropout mask for their different
examples (S11). Inside a step the replica's index is folded into the seed that the generator
returns; its state, which counts the draws, stays equal on all replicas.

N replicas cannot draw what one device draws, whose mask has the shape of the global batch: dropout
is an exception by nature. They draw independently, and reproducibly for a given seed.

A function of a dataset, as of `map`, cannot capture the mirrored variable that counts the draws:
`UnliftableError` (C18). So a generator gets an additional plain variable when such a function first
draws, with the current count. From then on draws outside of the replicas' steps are counted there,
in the order of one device.
"""

from __future__ import annotations

import copy
import functools
import weakref
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops

from strategies.keras_support.context.lineage import Source
from strategies.keras_support.context.recomputed_pass import drawn
from strategies.keras_support.context.step_context import current_step
from strategies.keras_support.patching.ownership import is_owned

# Keras counts draws in the second word from 0; no run draws this often.
_DRAWS_PER_REPLICA = 2**20 * 1031


def draw_by_replica(next_seed: Any) -> Any:
    """Replaces `SeedGenerator.next`: folds the replica's index into a seed."""

    @functools.wraps(next_seed)
    def own(self: Any, ordered: bool = True) -> Any:
        return drawn(lambda: draw(self, ordered))

    def draw(generator: Any, ordered: bool) -> Any:
        step = current_step()
        if step is not None and step.pull is not None and ordered:
            return _draw_of_worker(generator.state, step.pull.worker)
        seed = next_seed(generator_of_data(generator), ordered=ordered)
        replica = tf.distribute.get_replica_context()
        if (
            step is None
            or replica is None
            or replica.num_replicas_in_sync == 1
            or not is_owned(replica.strategy)
        ):
            return seed
        index = tf.cast(replica.replica_id_in_sync_group, seed.dtype)
        own_seed = seed + tf.stack([tf.zeros_like(index), index * _DRAWS_PER_REPLICA])
        step.lineage.mark([own_seed], Source.DATA)
        return own_seed

    return own


def _draw_of_worker(state: Any, worker: tf.Tensor) -> tf.Tensor:
    """Counts a draw without losing that of another worker; two with equal counts differ."""
    seed = tf.identity(state.value)
    state.assign_add(tf.constant([0, 1], seed.dtype))
    apart = tf.cast(worker, seed.dtype) * _DRAWS_PER_REPLICA
    return seed + tf.stack([tf.zeros_like(apart), apart])


_DATA_GENERATORS: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


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
        if generator not in _DATA_GENERATORS:
            _DATA_GENERATORS[generator] = _with_plain_state(generator)
        return _DATA_GENERATORS[generator]
    replica = tf.distribute.get_replica_context()
    is_in_step = replica is not None and is_owned(replica.strategy)
    return generator if is_in_step else _DATA_GENERATORS.get(generator, generator)


def _with_plain_state(generator: Any) -> Any:
    """Returns a generator that continues from the count of `generator`, in a plain variable."""
    with tf.init_scope(), tf.device("CPU:0"):
        first = generator.state._value.values[0]
        # `tf.Variable` would be mirrored in the scope.
        plain = resource_variable_ops.ResourceVariable(first.numpy(), trainable=False)
    copied = copy.copy(generator)
    copied.state = copy.copy(generator.state)
    copied.state._value = plain
    return copied
