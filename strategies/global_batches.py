"""Global batches, and how they are divided into replica batches.

A global batch is what one device would train on in one step. With N replicas, replica r of all
workers gets rows `[r n // N, (r + 1) n // N)` of its n rows: contiguous, in order, with sizes that
differ by at most one. So predictions keep the order, and step t has the same examples for every N.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import tensorflow as tf
from tensorflow.python.data.ops import dataset_ops

from strategies.batch_parts import (
    as_element,
    equal_rows,
    has_examples,
    refuse_empty,
    refuse_no_rows,
    refuse_unequal_rows,
    static_rows,
)


@runtime_checkable
class GlobalBatches(Protocol):
    """A source of global batches that `fit` accepts; `tfscale.data.Pipeline` is one.

    Attributes:
        element_spec: Structure of `tf.TypeSpec` of a replica batch.
        steps_per_epoch: Positive.
        global_batch_size: Positive.
        strategy: A strategy of this package.
    """

    @property
    def element_spec(self) -> Any:
        """Specification of a replica batch."""

    @property
    def steps_per_epoch(self) -> int:
        """Global batches per epoch."""

    @property
    def global_batch_size(self) -> int:
        """Examples of a full global batch."""

    @property
    def strategy(self) -> tf.distribute.Strategy:
        """The strategy whose replicas get the batches."""

    def local(self, worker: int) -> tf.data.Dataset:
        """Returns the endless replica batches of one worker, replica after replica."""


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
    """A replica batch, as it is sent to its replica.

    Attributes:
        data: Its rows. If it has none, one row of another replica, with weight 0: kernels, layers
            and lookups do not expect an empty batch.
        examples: int32 scalar, the rows that count. May be zero.
        all_examples: int32 scalar, the rows of the global batch. Positive. None if the user
            distributed the data, so that only all replicas together know it.
    """

    data: Any
    examples: tf.Tensor
    all_examples: tf.Tensor | None


class PaddedReplicaBatch(ReplicaBatch):
    """A replica batch whose rows after its examples are padding, which no loss counts."""

    __slots__ = ()


class EvenReplicaBatch(NamedTuple):
    """A replica batch with the same static, positive number of rows as those of other replicas.

    Attributes:
        data: Its rows; all of them count.
    """

    data: Any


class _NamedGlobalBatches(dataset_ops.UnaryDataset):
    """A dataset whose elements are wrapped as `GlobalBatch`, without mapping or tracing."""

    def __init__(self, dataset: tf.data.Dataset) -> None:
        super().__init__(dataset, dataset._variant_tensor)
        self._spec = GlobalBatch(dataset.element_spec)

    @property
    def element_spec(self) -> GlobalBatch:
        """The structure of an element."""
        return self._spec


class GlobalBatch(NamedTuple):
    """A global batch that is divided within each step.

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
    """Divides global batches into the replica batches of one worker, replica after replica.

    Parts that all examples share, scalars and `Shared`, are in every replica batch.

    Args:
        dataset: Global batches, the same on every worker.
        first_replica: Index of this worker's first replica among all.
        local_replicas: Replicas of this worker. Positive.
        num_replicas: Replicas of all workers.
        function: Maps a replica batch to one with the same number of rows; several run at a time.
            It never gets an empty batch. None maps nothing.

    Returns:
        A `tf.data.Dataset` with `local_replicas` elements for each of `dataset`: all are
        `EvenReplicaBatch` if the batch size is static and divisible, else all are `ReplicaBatch`.
        Endless if `dataset` is.

    Raises:
        ValueError: If parts of a batch have different numbers of rows. If this is known only from a
            batch, reading it raises `tf.errors.InvalidArgumentError`.
    """
    batches = _cut(
        dataset, first_replica, local_replicas, num_replicas, at_least=1, check=refuse_empty
    )

    def counted(data: Any, examples: tf.Tensor, all_examples: tf.Tensor) -> Any:
        is_even = bool(static_rows(data))
        return _counted(
            data if function is None else function(data), is_even, examples, all_examples
        )

    if function is None:
        return batches.map(counted)
    return batches.map(counted, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def as_global_batches(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns global batches as elements of `GlobalBatch`, which `cut_for_replicas` cuts.

    Dividing in the dataset is instantiated for each iterator, 10 ms for two replicas and two parts
    (TensorFlow 2.21). A function of steps is instantiated once.

    Raises:
        ValueError: If parts of a batch have different numbers of rows, or no part has rows.
    """
    refuse_unequal_rows(dataset.element_spec)
    refuse_no_rows(dataset.element_spec)
    return _NamedGlobalBatches(dataset)


def cut_for_replicas(
    batch: GlobalBatch, first_replica: int, local_replicas: int, num_replicas: int
) -> list[ReplicaBatch | EvenReplicaBatch]:
    """Divides a global batch into the replica batches of a worker; see `counted_replica_batches`.

    Raises:
        ValueError: If it is empty, or its parts have different numbers of rows. In a graph, running
            it raises `tf.errors.InvalidArgumentError`.
    """
    num_rows = refuse_empty(equal_rows(batch.data))
    known = static_rows(batch.data)
    # Eagerly the size of every batch is known, and the next may differ.
    is_even = known is not None and known > 0 and known % num_replicas == 0
    is_even = is_even and not tf.executing_eagerly()
    batches = []
    for replica in range(first_replica, first_replica + local_replicas):
        index = tf.constant(replica, tf.int64)
        if not tf.executing_eagerly():  # uneven sizes are unknown, on all replicas
            index = tf.compat.v1.placeholder_with_default(index, [])
        data, *counts = _rows_of_replica(batch.data, num_rows, index, num_replicas, at_least=1)
        batches.append(_counted(data, is_even, *counts))
    return batches


def _counted(data: Any, is_even: bool, examples: tf.Tensor, all_examples: tf.Tensor) -> Any:
    if is_even and static_rows(data):
        return EvenReplicaBatch(data)
    return ReplicaBatch(data, tf.cast(examples, tf.int32), tf.cast(all_examples, tf.int32))


def replica_batch_spec(spec: Any, num_replicas: int) -> Any:
    """Returns the structure of `tf.TypeSpec` of the data of a replica batch.

    Args:
        spec: The structure of a global batch.
        num_replicas: Replicas of all workers.
    """

    def of_part(part: Any) -> Any:
        if not has_examples(part) or part.shape.rank is None:
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
    """Returns the rows of a replica batch that count."""
    if isinstance(batch, EvenReplicaBatch):
        return batch.data
    return keep_rows(batch.data, batch.examples)


def replica_batches(
    dataset: tf.data.Dataset, first_replica: int, local_replicas: int, num_replicas: int
) -> tf.data.Dataset:
    """Divides global batches into the rows of the replica batches of one worker.

    Args:
        dataset: Global batches, the same on every worker.
        first_replica: Index of this worker's first replica among all.
        local_replicas: Replicas of this worker. Positive.
        num_replicas: Replicas of all workers.

    Returns:
        A `tf.data.Dataset` with `local_replicas` elements for each of `dataset`. A replica
        batch may be empty. Shapes stay static if the batch size is static and divisible. Endless if
        `dataset` is.

    Example:
        >>> batch = tf.data.Dataset.from_tensors([1, 2, 3])
        >>> [rows.tolist() for rows in replica_batches(batch, 0, 2, 2).as_numpy_iterator()]
        [[1], [2, 3]]
    """
    if num_replicas == 1:
        return dataset
    batches = _cut(dataset, first_replica, local_replicas, num_replicas, at_least=0)
    return batches.map(lambda data, *_: data)


def cut_rows(batch: Any, start: Any, stop: Any) -> Any:
    """Returns the rows `[start, stop)` of a batch, with the parts that all examples share."""
    start, stop = tf.cast(start, tf.int64), tf.cast(stop, tf.int64)
    return tf.nest.map_structure(_cutter(start, stop, None), batch)


def keep_rows(batch: Any, rows: tf.Tensor) -> Any:
    """Returns the first `rows` rows of every part of `batch`, without static shapes."""
    return cut_rows(batch, 0, rows)


def _cut(
    dataset: tf.data.Dataset,
    first_replica: int,
    local_replicas: int,
    num_replicas: int,
    at_least: int,
    check: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> tf.data.Dataset:
    """Yields `(data, rows, all rows)`: at least `at_least` rows, and how many of them count."""
    refuse_unequal_rows(dataset.element_spec)
    replicas = tf.data.Dataset.range(first_replica, first_replica + local_replicas)

    def divided(*element: Any) -> tf.data.Dataset:
        batch = as_element(dataset, element)
        num_rows = check(equal_rows(batch))

        def rows(replica: tf.Tensor) -> Any:
            return _rows_of_replica(batch, num_rows, replica, num_replicas, at_least)

        return replicas.map(rows)

    cut = dataset.flat_map(divided)
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:  # flat_map loses it
        cut = cut.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return cut


def _rows_of_replica(
    batch: Any, num_rows: tf.Tensor, replica: tf.Tensor, num_replicas: int, at_least: int
) -> tuple[Any, tf.Tensor, tf.Tensor]:
    """Returns at least `at_least` rows, how many of them count, and all rows."""
    start, stop = replica_batch_bounds(num_rows, replica, num_replicas)
    cut = _cutter(start, tf.maximum(stop, start + at_least), num_replicas)
    return tf.nest.map_structure(cut, batch), stop - start, num_rows


def _cutter(start: tf.Tensor, stop: tf.Tensor, num_parts: int | None) -> Callable[[Any], Any]:
    def cut(part: Any) -> Any:
        if not has_examples(part):
            return part
        if isinstance(part, tf.SparseTensor):
            lower = tf.concat([[start], tf.zeros_like(part.dense_shape[1:])], axis=0)
            size = tf.concat([[stop - start], part.dense_shape[1:]], axis=0)
            return tf.sparse.slice(part, lower, size)
        rows = part[start:stop]
        size = part.shape[0]
        is_static = num_parts is not None and size is not None and size % num_parts == 0
        if is_static and isinstance(part, tf.Tensor):
            rows.set_shape([size // num_parts, *part.shape[1:]])
        return rows

    return cut
