"""The endless replica batches of one worker, from arrays and from a stream of examples.

Both yield the replica batches of global batch 0 for the worker's first replica, its second, ...,
then those of global batch 1. Epochs follow one another in one iterator, so that prefetching
continues into the next epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import (
    EvenReplicaBatch,
    PaddedReplicaBatch,
    ReplicaBatch,
    Shared,
    counted_replica_batches,
    replica_batch_bounds,
    static_rows,
)
from tfscale.data.order import Order, epoch_key
from tfscale.data.sources import Division, RandomAccessSource, StreamSource

# Looking up the order of several steps at once halves the cost.
_STEPS_PER_LOOKUP = 16

# Batches that are read ahead take at most this memory, but those of one step are always.
_AHEAD_BYTES = 2**28

_ENDLESS = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)

Prepare = Callable[[Any, tf.Tensor, tf.Tensor], Any]
"""Maps a batch, the positions of its examples in the epoch int64 [n], and the epoch to a batch."""


@dataclass(frozen=True)
class Cut:
    """How an epoch is divided into global batches and replica batches, and where to begin.

    Attributes:
        division: Positions of each global batch.
        order: The order of the examples.
        is_padded: Whether replica batches that are not full are padded, with sample weights.
        first_epoch: Epoch to begin in. Not negative.
        first_step: Global batch of that epoch to begin with, in `[0, division.steps)`.
        first_replica: Index of this worker's first replica among all.
        local_replicas: Replicas of this worker. Positive.
        num_replicas: Replicas of all workers.
    """

    division: Division
    order: Order
    is_padded: bool
    first_epoch: int
    first_step: int
    first_replica: int
    local_replicas: int
    num_replicas: int

    @property
    def is_static(self) -> bool:
        """Whether all replica batches have the same number of rows."""
        return self.division.is_even and self.division.batch_size % self.num_replicas == 0


def random_access_batches(
    source: RandomAccessSource, cut: Cut, prepare: Prepare
) -> tf.data.Dataset:
    """Yields replica batches of a source with random access. A worker reads only its own.

    They are `EvenReplicaBatch` if all have the same size, else `PaddedReplicaBatch` or
    `ReplicaBatch`. An empty one is prepared from one row, because functions do not expect an empty
    batch.

    Args:
        source: The examples.
        cut: The division into batches.
        prepare: Applied to every replica batch.
    """
    division = cut.division
    lookup = min(_STEPS_PER_LOOKUP, division.steps)
    lookups = -(-division.steps // lookup)

    def look_up(count: tf.Tensor) -> Any:
        epoch, first = count // lookups, count % lookups * lookup
        steps = tf.range(first, tf.minimum(first + lookup, division.steps))
        return _examples_of_steps(source, cut, epoch, steps)

    counter = tf.data.Dataset.counter(cut.first_epoch * lookups + cut.first_step // lookup)
    # `unbatch` loses the information that the stream is endless. Without it, workers would check at
    # every step whether it has ended.
    replica_batches = counter.map(look_up).prefetch(1).unbatch().apply(_ENDLESS)
    replica_batches = replica_batches.skip(cut.first_step % lookup * cut.local_replicas)
    return replica_batches.map(
        lambda *chosen: _replica_batch(source, cut, prepare, *chosen),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def replica_batches_of_step(
    source: RandomAccessSource, cut: Cut, prepare: Prepare, epoch: tf.Tensor, step: tf.Tensor
) -> list[ReplicaBatch | EvenReplicaBatch]:
    """Returns the replica batches of one step, the elements of `random_access_batches`. Traced.

    Args:
        source: The examples.
        cut: The division into batches. Where it begins is not used.
        prepare: Applied to every replica batch.
        epoch: int64 scalar, not negative.
        step: int64 scalar, in `[0, cut.division.steps)`.
    """
    chosen = _examples_of_steps(source, cut, epoch, step[tf.newaxis])
    return [
        _replica_batch(source, cut, prepare, *(part[replica] for part in chosen))
        for replica in range(cut.local_replicas)
    ]


def _examples_of_steps(
    source: RandomAccessSource, cut: Cut, epoch: tf.Tensor, steps: tf.Tensor
) -> Any:
    """Returns the examples of the replica batches of steps, [batches, rows], and their number."""
    division = cut.division
    most_rows = -(-division.batch_size // cut.num_replicas)
    replicas = tf.range(cut.first_replica, cut.first_replica + cut.local_replicas)
    first_positions, ends = division.bounds(steps, epoch, cut.order)
    rows = (ends - first_positions)[:, tf.newaxis]
    start, stop = replica_batch_bounds(rows, tf.cast(replicas, tf.int64), cut.num_replicas)
    num_rows = tf.reshape(stop - start, [-1])
    # A short replica batch is filled with the batch's last row, an empty one with any.
    last = tf.reshape(tf.repeat(ends - 1, cut.local_replicas), [-1, 1])
    positions = tf.reshape(first_positions[:, tf.newaxis] + start, [-1, 1])
    positions += tf.range(most_rows, dtype=tf.int64)
    positions = tf.reshape(tf.minimum(positions, last), [-1])
    indices = source.indices(positions, epoch, cut.order)
    shape = [-1, most_rows]
    return (
        tf.reshape(indices, shape),
        tf.reshape(positions, shape),
        num_rows,
        tf.repeat(tf.reshape(rows, [-1]), cut.local_replicas),
        tf.fill(tf.shape(num_rows), epoch),
    )


def _replica_batch(
    source: RandomAccessSource,
    cut: Cut,
    prepare: Prepare,
    indices: tf.Tensor,
    positions: tf.Tensor,
    rows: tf.Tensor,
    all_rows: tf.Tensor,
    epoch: tf.Tensor,
) -> ReplicaBatch | EvenReplicaBatch:
    counts = tf.cast(rows, tf.int32), tf.cast(all_rows, tf.int32)
    if cut.is_static or cut.is_padded:
        data = prepare(source.take(indices), positions, epoch)
        if cut.is_static and static_rows(data):
            return EvenReplicaBatch(data)
        if not cut.is_static:
            return PaddedReplicaBatch(_with_padding(data, rows), *counts)
    else:
        some = tf.maximum(rows, 1)
        data = prepare(source.take(indices[:some]), positions[:some], epoch)
    return ReplicaBatch(data, *counts)


def _with_padding(data: Any, rows: tf.Tensor) -> Any:
    """Gives the rows after the first `rows` the sample weight 0."""
    size = static_rows(data)
    if not isinstance(data, tuple) or len(data) not in (2, 3) or size is None:
        raise ValueError(
            "`remainder` must be 'keep' or 'drop' unless batches are `(x, y)` or "
            "`(x, y, sample_weight)` of dense tensors. Received: remainder='pad' and batches of "
            f"{tf.nest.map_structure(tf.type_spec_from_value, data)}. Return such a tuple from "
            "preprocess."
        )
    is_example = tf.range(size, dtype=tf.int64) < rows

    def weighed(part: tf.Tensor) -> tf.Tensor:
        shape = [size, *[1] * (part.shape.rank - 1)]
        return tf.where(tf.reshape(is_example, shape), part, tf.zeros([], part.dtype))

    if len(data) == 3:
        return *data[:2], tf.nest.map_structure(weighed, data[2])
    return *data, tf.cast(is_example, keras.config.floatx())


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
    size, is_even = cut.division.batch_size, cut.division.is_even

    def epoch_of_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        examples = source.dataset
        if cut.order.seed is not None:
            # Dataset.shuffle also uses the global seed, which may differ between workers. Inside a
            # traced function this sets only the seed of its graph; 0 is an error.
            if not tf.executing_eagerly():
                tf.random.set_seed(1)
            shuffle_seed = tf.cast(epoch_key(epoch, cut.order.seed)[0], tf.int64)
            examples = examples.shuffle(window, seed=shuffle_seed, reshuffle_each_iteration=False)
        batches = examples.batch(size, drop_remainder=is_even).enumerate()
        skipped = tf.where(epoch == cut.first_epoch, cut.first_step, 0)
        return batches.skip(tf.cast(skipped, tf.int64)).map(
            lambda step, batch: (batch, *numbered(step, epoch))
        )

    def numbered(step: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        first = step * size
        positions = tf.range(first, tf.minimum(first + size, source.num_examples))
        if is_even:
            positions.set_shape([size])
        return positions, tf.fill(tf.shape(positions), epoch)

    batches = tf.data.Dataset.counter(cut.first_epoch).flat_map(epoch_of_batches)
    return counted_replica_batches(
        batches.apply(_ENDLESS),
        cut.first_replica,
        cut.local_replicas,
        cut.num_replicas,
        lambda batch: prepare(*batch),
    )


def read_ahead(element_spec: Any, most_rows: int, local_replicas: int) -> int:
    """Returns how many replica batches to read ahead: of two steps, of one if batches are large.

    Args:
        element_spec: Structure of `tf.TypeSpec` of a replica batch.
        most_rows: Rows of the largest replica batch.
        local_replicas: Replicas of this worker. Positive.

    Returns:
        At least `local_replicas`.

    Example:
        >>> read_ahead(tf.TensorSpec([None, 224, 224, 3], tf.float32), 1024, local_replicas=1)
        1
    """
    most = _AHEAD_BYTES // max(_bytes_of_batch(element_spec, most_rows), 1)
    return min(max(2 * local_replicas, 4), max(local_replicas, most))


def steps_ahead(element_spec: Any, most_rows: int, local_replicas: int, workers: int) -> int:
    """Returns for how many steps data workers are asked ahead: 4 each, 1 if batches are large.

    Args:
        element_spec: Structure of `tf.TypeSpec` of a replica batch.
        most_rows: Rows of the largest replica batch.
        local_replicas: Replicas of this worker. Positive.
        workers: Data workers. Positive.
    """
    size = _bytes_of_batch(element_spec, most_rows) * local_replicas
    return min(4 * workers, max(workers, _AHEAD_BYTES // max(size, 1)))


def _bytes_of_batch(element_spec: Any, most_rows: int) -> int:
    """Returns the size of a replica batch, 0 if it is not known."""
    size = 0
    for spec in tf.nest.flatten(element_spec, expand_composites=True):
        shape = spec.shape.as_list() if spec.shape.rank else []
        dimensions = [*(most_rows if rows is None else rows for rows in shape[:1]), *shape[1:]]
        if spec.dtype == tf.string or None in dimensions:
            return 0
        size += math.prod(dimensions) * spec.dtype.size
    return size


def same_rows(name: str, batch: Any, positions: tf.Tensor) -> Any:
    """Checks that the `batch` of a user's function `name` has as many rows as `positions`.

    Raises:
        ValueError: If it has not. If shapes are not static, a step raises
            `tf.errors.InvalidArgumentError`.
    """

    def checked(part: Any) -> Any:
        if part is None or isinstance(part, Shared):
            return part
        if not tf.is_tensor(part):  # an array, a number or a text, which are tensors in a dataset
            part = tf.convert_to_tensor(part)
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
        check = tf.debugging.assert_equal(_num_rows(part), tf.shape(positions)[0], message)
        with tf.control_dependencies([check]):
            return tf.nest.map_structure(tf.identity, part, expand_composites=True)

    return tf.nest.map_structure(checked, batch)


def _num_rows(part: Any) -> tf.Tensor:
    if isinstance(part, tf.RaggedTensor):
        return part.nrows(tf.int32)
    if isinstance(part, tf.SparseTensor):
        return tf.cast(part.dense_shape[0], tf.int32)
    return tf.shape(part)[0]
