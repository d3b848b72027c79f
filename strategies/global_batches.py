"""Global batches, and the replica batches that each replica takes of them.

A global batch is what one device would train on in one step. With N replicas, replica r of all
workers takes rows `[r n // N, (r + 1) n // N)` of its n rows: contiguous, in order, sizes at most
one apart. So predictions come back in order, and step t sees the same examples for every N.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import tensorflow as tf
from tensorflow.python.data.ops import dataset_ops

from strategies.batch_parts import (
    as_element,
    equal_rows,
    holds_examples,
    refuse_empty,
    refuse_no_rows,
    refuse_unequal_rows,
    static_rows,
)


@runtime_checkable
class GlobalBatches(Protocol):
    """A source of global batches that `fit` accepts; `tfscale.data.Pipeline` is one.

    Attributes:
        element_spec: Structure of `tf.TypeSpec` of one replica's batch.
        steps_per_epoch: Positive.
        global_batch_size: Positive.
        strategy: One of our own.
    """

    @property
    def element_spec(self) -> Any:
        """Specification of one replica's batch."""

    @property
    def steps_per_epoch(self) -> int:
        """Global batches an epoch."""

    @property
    def global_batch_size(self) -> int:
        """Examples of a full global batch."""

    @property
    def strategy(self) -> tf.distribute.Strategy:
        """The strategy whose replicas are fed."""

    def local(self, worker: int) -> tf.data.Dataset:
        """Returns the endless batches of one worker's replicas, replica after replica."""


def replica_batch_bounds(num_rows: Any, replica: Any, num_replicas: int) -> tuple[Any, Any]:
    """Returns the first row of a replica batch in its global batch, and the row after its last.

    Works on Python integers and on integer tensors.

    Args:
        num_rows: Rows of the global batch. Not negative.
        replica: Index among all replicas of all workers, `0 <= replica < num_replicas`.
        num_replicas: Replicas in sync. Positive.

    Example:
        >>> [replica_batch_bounds(7, replica, 3) for replica in range(3)]
        [(0, 2), (2, 4), (4, 7)]
    """
    return replica * num_rows // num_replicas, (replica + 1) * num_rows // num_replicas


class ReplicaBatch(NamedTuple):
    """The rows of a global batch for one replica, on their way to it.

    Attributes:
        data: Its rows. Where it has none of its own, one row of another replica's, which counts for
            nothing: kernels, layers and lookups do not expect a batch of no rows.
        examples: int32 scalar, the rows that are its own. May be zero.
        all_examples: int32 scalar, the rows of the global batch. Positive. None where only all
            replicas together know, for the user distributed the data.
    """

    data: Any
    examples: tf.Tensor
    all_examples: tf.Tensor | None


class EvenReplicaBatch(NamedTuple):
    """A replica batch whose static number of rows is that of every other replica's, and positive.

    Attributes:
        data: Its rows, all its own.
    """

    data: Any


class _NamedGlobalBatches(dataset_ops.UnaryDataset):
    """A dataset itself, whose elements are called `GlobalBatch`; nothing is mapped or traced."""

    def __init__(self, dataset: tf.data.Dataset) -> None:
        super().__init__(dataset, dataset._variant_tensor)
        self._named = GlobalBatch(dataset.element_spec)

    @property
    def element_spec(self) -> GlobalBatch:
        """The structure of an element."""
        return self._named


class GlobalBatch(NamedTuple):
    """A global batch, which each step cuts into replica batches.

    Attributes:
        data: All its rows.
    """

    data: Any


def counted_replica_batches(
    dataset: tf.data.Dataset,
    first_replica: int,
    local_replicas: int,
    num_replicas: int,
    function: Callable[[Any], Any] | None = None,
) -> tf.data.Dataset:
    """Cuts global batches into the replica batches of one worker, replica after replica.

    Parts that all examples share are in every share, whole: scalars, and `Shared`.

    Args:
        dataset: Global batches, the same on every worker.
        first_replica: Index of this worker's first replica among all.
        local_replicas: Replicas of this worker. Positive.
        num_replicas: Replicas of all workers.
        function: Maps a batch to a batch of as many rows: each replica batch, several at a time.
            Never sees a batch of no rows. None for none.

    Returns:
        A `tf.data.Dataset` with `local_replicas` elements for each of `dataset`: all
        `EvenReplicaBatch` where the batch size is static and divisible, all `ReplicaBatch`
        otherwise. Endless if `dataset` is.

    Raises:
        ValueError: If parts of a batch have different numbers of rows. Where only a batch can tell,
            reading it raises `tf.errors.InvalidArgumentError`.
    """
    cut = _cut(dataset, first_replica, local_replicas, num_replicas, at_least=1, check=refuse_empty)

    def counted(data: Any, examples: tf.Tensor, all_examples: tf.Tensor) -> Any:
        is_even = bool(static_rows(data))
        return _counted(
            data if function is None else function(data), is_even, examples, all_examples
        )

    if function is None:
        return cut.map(counted)
    return cut.map(counted, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def as_global_batches(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns global batches as elements of `GlobalBatch`, which `cut_for_replicas` cuts.

    What cuts in a dataset is instantiated for each iterator, 10 ms for two replicas and two parts
    (TensorFlow 2.21); a function of steps is instantiated once.

    Raises:
        ValueError: If parts of a batch have different numbers of rows, or none has rows.
    """
    refuse_unequal_rows(dataset.element_spec)
    refuse_no_rows(dataset.element_spec)
    return _NamedGlobalBatches(dataset)


def cut_for_replicas(
    batch: GlobalBatch, first_replica: int, local_replicas: int, num_replicas: int
) -> list[ReplicaBatch | EvenReplicaBatch]:
    """Cuts a global batch for one worker's replicas; see `counted_replica_batches`.

    Raises:
        ValueError: If it is empty, or its parts have different numbers of rows. In a graph, running
            it raises `tf.errors.InvalidArgumentError`.
    """
    num_rows = refuse_empty(equal_rows(batch.data))
    known = static_rows(batch.data)
    # Eagerly every batch is known, and the next may be another one.
    is_even = known is not None and known > 0 and known % num_replicas == 0
    is_even = is_even and not tf.executing_eagerly()
    cut: list[ReplicaBatch | EvenReplicaBatch] = []
    for replica in range(first_replica, first_replica + local_replicas):
        index = tf.constant(replica, tf.int64)
        if not tf.executing_eagerly():  # uneven ones are of unknown size, alike on all replicas
            index = tf.compat.v1.placeholder_with_default(index, [])
        data, *counts = _replica_batch_of(batch.data, num_rows, index, num_replicas, at_least=1)
        cut.append(_counted(data, is_even, *counts))
    return cut


def _counted(data: Any, is_even: bool, examples: tf.Tensor, all_examples: tf.Tensor) -> Any:
    if is_even and static_rows(data):
        return EvenReplicaBatch(data)
    return ReplicaBatch(data, tf.cast(examples, tf.int32), tf.cast(all_examples, tf.int32))


def replica_batch_spec(spec: Any, num_replicas: int) -> Any:
    """Returns the structure of `tf.TypeSpec` of the data of a replica batch.

    Args:
        spec: That of a global batch.
        num_replicas: Replicas of all workers.
    """

    def of_part(part: Any) -> Any:
        if not holds_examples(part) or part.shape.rank is None:
            return part
        others = part.shape[1:]
        if isinstance(part, tf.RaggedTensorSpec):
            return tf.RaggedTensorSpec(
                [None, *others], part.dtype, part.ragged_rank, part.row_splits_dtype
            )
        if isinstance(part, tf.SparseTensorSpec):
            return tf.SparseTensorSpec([None, *others], part.dtype)
        rows = part.shape[0]
        is_even = rows is not None and rows % num_replicas == 0
        return tf.TensorSpec([rows // num_replicas if is_even else None, *others], part.dtype)

    return tf.nest.map_structure(of_part, spec)


def own_rows(batch: ReplicaBatch | EvenReplicaBatch) -> Any:
    """Returns the rows of a replica batch that are the replica's own."""
    if isinstance(batch, EvenReplicaBatch):
        return batch.data
    return keep_rows(batch.data, batch.examples)


def replica_batches(
    dataset: tf.data.Dataset, first_replica: int, local_replicas: int, num_replicas: int
) -> tf.data.Dataset:
    """Like `counted_replica_batches`, with nothing but the rows.

    Args:
        dataset: Global batches, the same on every worker.
        first_replica: Index of this worker's first replica among all.
        local_replicas: Replicas of this worker. Positive.
        num_replicas: Replicas of all workers.

    Returns:
        A `tf.data.Dataset` with `local_replicas` elements for each of `dataset`, which may be
        empty. Shapes stay static where the batch size is static and divisible. Endless if
        `dataset` is.

    Example:
        >>> batch = tf.data.Dataset.from_tensors([1, 2, 3])
        >>> [rows.tolist() for rows in replica_batches(batch, 0, 2, 2).as_numpy_iterator()]
        [[1], [2, 3]]
    """
    if num_replicas == 1:
        return dataset
    cut = _cut(dataset, first_replica, local_replicas, num_replicas, at_least=0)
    return cut.map(lambda rows, *_: rows)


def mapped_replica_batches(
    dataset: tf.data.Dataset,
    first_replica: int,
    local_replicas: int,
    num_replicas: int,
    function: Callable[[Any], Any],
) -> tf.data.Dataset:
    """Like `replica_batches`, with `function` mapped over the replica batches, several at a time.

    A user's function may not expect a batch of no rows; where a replica batch is empty it sees
    one row, which is then dropped.

    Args:
        dataset: Global batches, the same on every worker.
        first_replica: Index of this worker's first replica among all.
        local_replicas: Replicas of this worker. Positive.
        num_replicas: Replicas of all workers.
        function: Maps a batch to a batch of as many rows.
    """
    return counted_replica_batches(
        dataset, first_replica, local_replicas, num_replicas, function
    ).map(own_rows)


def cut_rows(batch: Any, start: Any, stop: Any) -> Any:
    """Returns the rows `[start, stop)` of a batch, and whole what all examples share."""
    start, stop = tf.cast(start, tf.int64), tf.cast(stop, tf.int64)
    return tf.nest.map_structure(_cutter(start, stop, None), batch)


def keep_rows(batch: Any, rows: tf.Tensor) -> Any:
    """Returns the first `rows` rows of every part of `batch`; knows nothing of static shapes."""
    return cut_rows(batch, 0, rows)


def _cut(
    dataset: tf.data.Dataset,
    first_replica: int,
    local_replicas: int,
    num_replicas: int,
    at_least: int,
    check: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> tf.data.Dataset:
    """Yields replica batches of at least so many rows, how many are their own, and all rows."""
    refuse_unequal_rows(dataset.element_spec)
    replicas = tf.data.Dataset.range(first_replica, first_replica + local_replicas)

    def cut_one(*element: Any) -> tf.data.Dataset:
        batch = as_element(dataset, element)
        num_rows = check(equal_rows(batch))

        def replica_batch(replica: tf.Tensor) -> Any:
            return _replica_batch_of(batch, num_rows, replica, num_replicas, at_least)

        return replicas.map(replica_batch)

    cut = dataset.flat_map(cut_one)
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:  # flat_map does not tell
        cut = cut.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return cut


def _replica_batch_of(
    batch: Any, num_rows: tf.Tensor, replica: tf.Tensor, num_replicas: int, at_least: int
) -> tuple[Any, tf.Tensor, tf.Tensor]:
    """Returns a replica batch of at least so many rows, how many are its own, and all rows."""
    start, stop = replica_batch_bounds(num_rows, replica, num_replicas)
    cut = _cutter(start, tf.maximum(stop, start + at_least), num_replicas)
    return tf.nest.map_structure(cut, batch), stop - start, num_rows


def _cutter(start: tf.Tensor, stop: tf.Tensor, num_replicas: int | None) -> Callable[[Any], Any]:
    def cut(part: Any) -> Any:
        if not holds_examples(part):
            return part
        if isinstance(part, tf.SparseTensor):
            lower = tf.concat([[start], tf.zeros_like(part.dense_shape[1:])], axis=0)
            size = tf.concat([[stop - start], part.dense_shape[1:]], axis=0)
            return tf.sparse.slice(part, lower, size)
        rows = part[start:stop]
        size = part.shape[0]
        is_static = num_replicas is not None and size is not None and size % num_replicas == 0
        if is_static and isinstance(part, tf.Tensor):
            rows.set_shape([size // num_replicas, *part.shape[1:]])
        return rows

    return cut
