"""The random patch: every replica draws its own numbers.

A Keras seed generator is mirrored, so all replicas draw the same dropout mask for their different
examples (S11). Inside a step the replica's index is folded into what the generator hands out; its
state, which counts the draws, stays equal on all replicas.

N replicas cannot draw what one device draws, whose mask has the shape of the whole batch: dropout
is an exception by nature. They draw independently, and the same again from the same seed.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.lineage import Source
from strategies.keras_support.context.step_context import current_step
from strategies.keras_support.input.data_draws import generator_of_data
from strategies.keras_support.patching.ownership import is_owned

# Keras counts draws in the second word from 0; no run draws this often.
_DRAWS_PER_REPLICA = 2**20 * 1031


def draw_by_replica(next_seed: Any) -> Any:
    """Stands in for `SeedGenerator.next`: folds the replica's index into a seed."""

    @functools.wraps(next_seed)
    def own(self: Any, ordered: bool = True) -> Any:
        step = current_step()
        if step is not None and step.pull is not None and ordered:
            return _draw_of_worker(self.state, step.pull.worker)
        seed = next_seed(generator_of_data(self), ordered=ordered)
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
    """Counts a draw without losing another worker's; two that read the same count draw apart."""
    seed = tf.identity(state.value)
    state.assign_add(tf.constant([0, 1], seed.dtype))
    apart = tf.cast(worker, seed.dtype) * _DRAWS_PER_REPLICA
    return seed + tf.stack([tf.zeros_like(apart), apart])
