"""The endless replica batches of one worker, from arrays and from a stream of examples.

Both yield the replica batches of global batch 0 for the worker's first replica, its second, ...,
then those of global batch 1. Epochs follow one another in one iterator, so that prefetching
continues into the next epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.extension import (
    EvenReplicaBatch,
    ReplicaBatch,
    counted_replica_batches,
    replica_batch_bounds,
    static_rows,
)
from tfscale.data.order import epoch_key, example_indices
from tfscale.data.sources import ArraySource, StreamSource

# Looking up the order of several steps at once halves the cost.
_STEPS_PER_LOOKUP = 16

_ENDLESS = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)

Prepare = Callable[[Any, tf.Tensor, tf.Tensor], Any]
"""Maps a batch, the positions of its examples in the epoch int64 [n], and the epoch to a batch."""


@dataclass(frozen=True)
class Cut:
    """How an epoch is divided into global batches and replica batches, and where to begin.

    Attributes:
        steps: Global batches per epoch. Positive.
        size: Examples of a full global batch. A multiple of `num_replicas`.
        seed: Seed of the epochs' orders, or None for the order of the source.
        first_epoch: Epoch to begin in. Not negative.
        first_step: Global batch of that epoch to begin with, in `[0, steps)`.
        first_replica: Index of this worker's first replica among all.
        local_replicas: Replicas of this worker. Positive.
        num_replicas: Replicas of all workers.
    """

    steps: int
    size: int
    seed: int | None
    first_epoch: int
    first_step: int
    first_replica: int
    local_replicas: int
    num_replicas: int


def array_batches(source: ArraySource, cut: Cut, prepare: Prepare) -> tf.data.Dataset:
    """Yields replica batches of arrays. Each epoch is a permutation of all examples.

    They are `EvenReplicaBatch` if all have the same size, else `ReplicaBatch`. An empty one is
    prepared from one row, because functions do not expect an empty batch.

    Args:
        source: The examples.
        cut: The division into batches.
        prepare: Applied to every replica batch.
    """
    lookup = min(_STEPS_PER_LOOKUP, cut.steps)
    lookups = -(-cut.steps // lookup)
    replica_batch_size = cut.size // cut.num_replicas
    is_static = source.num_examples >= cut.steps * cut.size

    def look_up(count: tf.Tensor) -> Any:
        """Returns the examples of the next replica batches [batches, rows], and their number."""
        epoch, first = count // lookups, count % lookups * lookup
        steps = tf.range(first, tf.minimum(first + lookup, cut.steps))[:, tf.newaxis]
        replicas = tf.range(cut.first_replica, cut.first_replica + cut.local_replicas)
        rows = tf.minimum(tf.constant(cut.size, tf.int64), source.num_examples - steps * cut.size)
        start, stop = replica_batch_bounds(rows, tf.cast(replicas, tf.int64), cut.num_replicas)
        positions = tf.reshape(steps * cut.size + start, [-1, 1]) + tf.range(
            replica_batch_size, dtype=tf.int64
        )
        positions = tf.reshape(tf.minimum(positions, source.num_examples - 1), [-1])
        indices = example_indices(positions, epoch, source.num_examples, cut.seed)
        shape = [-1, replica_batch_size]
        num_rows = tf.reshape(stop - start, [-1])
        return (
            tf.reshape(indices, shape),
            tf.reshape(positions, shape),
            num_rows,
            tf.repeat(tf.reshape(rows, [-1]), cut.local_replicas),
            tf.fill(tf.shape(num_rows), epoch),
        )

    def replica_batch(
        indices: tf.Tensor,
        positions: tf.Tensor,
        rows: tf.Tensor,
        all_rows: tf.Tensor,
        epoch: tf.Tensor,
    ) -> Any:
        if is_static:
            data = prepare(source.take(indices), positions, epoch)
            if static_rows(data):
                return EvenReplicaBatch(data)
        else:
            some = tf.maximum(rows, 1)
            data = prepare(source.take(indices[:some]), positions[:some], epoch)
        return ReplicaBatch(data, tf.cast(rows, tf.int32), tf.cast(all_rows, tf.int32))

    counter = tf.data.Dataset.counter(cut.first_epoch * lookups + cut.first_step // lookup)
    # `unbatch` loses the information that the stream is endless. Without it, workers would check at
    # every step whether it has ended.
    replica_batches = counter.map(look_up).prefetch(1).unbatch().apply(_ENDLESS)
    replica_batches = replica_batches.skip(cut.first_step % lookup * cut.local_replicas)
    return replica_batches.map(
        replica_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


def stream_batches(
    source: StreamSource, cut: Cut, prepare: Prepare, *, window: int
) -> tf.data.Dataset:
    """Yields replica batches of a stream, which every worker reads completely.

    Args:
        source: The examples.
        cut: The division into batches.
        prepare: Applied to every replica batch.
        window: Size of the shuffle buffer in examples, if the cut has a seed. Positive.
    """

    def epoch_of_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        examples = source.dataset
        if cut.seed is not None:
            # Dataset.shuffle also uses the global seed, which may differ between workers. Inside a
            # traced function this sets only the seed of its graph; 0 is an error.
            if not tf.executing_eagerly():
                tf.random.set_seed(1)
            shuffle_seed = tf.cast(epoch_key(epoch, cut.seed)[0], tf.int64)
            examples = examples.shuffle(window, seed=shuffle_seed, reshuffle_each_iteration=False)
        batches = examples.batch(cut.size, drop_remainder=is_static).enumerate()
        skipped = tf.where(epoch == cut.first_epoch, cut.first_step, 0)
        return batches.skip(tf.cast(skipped, tf.int64)).map(
            lambda step, batch: (batch, *numbered(step, epoch))
        )

    def numbered(step: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        first = step * cut.size
        positions = tf.range(first, tf.minimum(first + cut.size, source.num_examples))
        if is_static:
            positions.set_shape([cut.size])
        return positions, tf.fill(tf.shape(positions), epoch)

    is_static = source.num_examples >= cut.steps * cut.size
    batches = tf.data.Dataset.counter(cut.first_epoch).flat_map(epoch_of_batches)
    return counted_replica_batches(
        batches.apply(_ENDLESS),
        cut.first_replica,
        cut.local_replicas,
        cut.num_replicas,
        lambda batch: prepare(*batch),
    )


def same_rows(name: str, batch: Any, positions: tf.Tensor) -> Any:
    """Checks that the `batch` of a user's function `name` has as many rows as `positions`.

    Raises:
        ValueError: If it has not. If shapes are not static, a step raises
            `tf.errors.InvalidArgumentError`.
    """

    def checked(part: Any) -> Any:
        if not isinstance(part, tf.Tensor):  # ragged, sparse, or a part for all examples
            return part
        message = (
            f"`{name}` must return as many rows as it receives, in every part of the batch. "
            f"Received: a part of shape {part.shape}. Change rows, but not their number; declare a "
            "part that belongs to all examples with tfscale.data.shared(part)."
        )
        wanted, rows = positions.shape[0], part.shape[0] if part.shape.rank else 0
        if part.shape.rank == 0 or (None not in (wanted, rows) and wanted != rows):
            raise ValueError(message)
        if wanted is not None and rows == wanted:
            return part
        check = tf.debugging.assert_equal(tf.shape(part)[0], tf.shape(positions)[0], message)
        with tf.control_dependencies([check]):
            return tf.identity(part)

    return tf.nest.map_structure(checked, batch)
