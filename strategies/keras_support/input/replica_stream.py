"""Streams of batches: from a worker's input to its replicas, and to one execution.

Between GPUs a stream is a `tf.distribute.DistributedIterator`, which copies every replica batch to
its device ahead of time. On CPUs there is nothing to copy, and that iterator's own threads cost
more than they gain: a new one takes 0.35 s where a plain one takes 0.03 s (TensorFlow 2.21, two
replicas, loaded machine), and a process that drops one while it reads ahead was seen to crash
inside TensorFlow. So there a stream is a plain iterator, read once a step or, of a pipeline, once
for each of its replicas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.batch_parts import (
    equal_rows,
    num_rows,
    refuse_empty,
    refuse_unequal_rows,
    static_rows,
)
from strategies.coordination.rendezvous import worker_index
from strategies.devices import all_on
from strategies.global_batches import (
    EvenReplicaBatch,
    GlobalBatch,
    ReplicaBatch,
    cut_for_replicas,
    replica_batch_bounds,
)
from strategies.keras_support.input.execution_size import ExecutionSize
from strategies.keras_support.patching.ownership import is_asynchronous, is_multi_worker
from strategies.keras_support.patching.step_clock import StepClock
from strategies.progress import phase, timed


def distribute_replica_batches(
    strategy: tf.distribute.Strategy,
    local: Callable[[int], tf.data.Dataset],
    *,
    is_counted: bool,
    is_rereadable: bool = True,
) -> Any:
    """Returns an iterable of replica batches, with an `element_spec`; each `iter` reads again.

    Args:
        strategy: One of this package.
        local: Returns the replica batches of one worker, replica after replica in each step or,
            where the stream is plain, global batches; takes the worker's index.
        is_counted: Whether the reader knows how many steps there are, and takes no more.
        is_rereadable: Whether it may be read again before it is used up: a generator may not.
    """
    if is_asynchronous(strategy):
        return local(0)  # the chief's own
    if is_plain(strategy, is_counted=is_counted):
        return local(worker_index(strategy))

    def endless(context: tf.distribute.InputContext) -> tf.data.Dataset:
        dataset = local(context.input_pipeline_id)
        # TensorFlow asks before every step of a dataset that may end.
        return dataset.repeat() if is_counted and is_rereadable else dataset

    return strategy.distribute_datasets_from_function(endless)


def is_plain(strategy: tf.distribute.Strategy, *, is_counted: bool) -> bool:
    """Tells whether a stream is an iterator of TensorFlow's own datasets.

    Args:
        strategy: One of this package, with synchronous workers.
        is_counted: See `distribute_replica_batches`.
    """
    # Workers that do not count ask each other "have you more?" before each step: `end_of_input`.
    return all_on("CPU", strategy) or (is_multi_worker(strategy) and not is_counted)


def next_replica_batches(
    strategy: tf.distribute.Strategy, stream: Any, clock: StepClock | None = None
) -> Any:
    """Takes one step's replica batches from a stream, for `strategy.run`; in graphs or eagerly.

    Args:
        strategy: The strategy that the stream was made for.
        stream: An iterator over what `distribute_replica_batches` returned, or the user's own
            distributed one.
        clock: Marks when the stream is read, or None.

    Raises:
        StopIteration: Eagerly, where there are no more.
        tf.errors.OutOfRangeError: In a graph, where there are no more.
    """
    if clock is not None:
        return clock.around_input(
            lambda: next_replica_batches(strategy, stream),
            lambda batches: examples_of_worker(strategy, batches),
        )
    if not isinstance(stream, tf.data.Iterator):
        return next(stream)
    if isinstance(stream.element_spec, GlobalBatch):
        return replica_batches_of_global(strategy, next(stream))
    return _with_replicas(strategy, [next(stream) for _ in strategy.extended.worker_devices])


def next_batch(strategy: tf.distribute.Strategy, stream: Any) -> Any:
    """Takes one step's batch from a stream, eagerly: whole where a graph can cut it faster.

    Raises:
        StopIteration: Where there are no more.
    """
    is_whole = isinstance(stream, tf.data.Iterator) and isinstance(stream.element_spec, GlobalBatch)
    return next(stream) if is_whole else next_replica_batches(strategy, stream)


def replica_batches_of_global(strategy: tf.distribute.Strategy, batch: GlobalBatch) -> Any:
    """Gives each replica of this worker its replica batch; in graphs or eagerly."""
    count, total = len(strategy.extended.worker_devices), strategy.num_replicas_in_sync
    if total == 1:
        return _with_replicas(strategy, [batch.data])
    first = worker_index(strategy) * count
    return _with_replicas(strategy, cut_for_replicas(batch, first, count, total))


def examples_of_worker(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """Returns how many examples of a step this worker has, a scalar.

    Args:
        strategy: The strategy that the batch was read for.
        batch: What `next_batch` returned.
    """
    count, total = len(strategy.extended.worker_devices), strategy.num_replicas_in_sync
    if isinstance(batch, GlobalBatch):
        first = worker_index(strategy) * count
        rows = num_rows(batch.data)
        begin, _ = replica_batch_bounds(rows, first, total)
        _, end = replica_batch_bounds(rows, first + count - 1, total)
        return end - begin
    if isinstance(batch, ReplicaBatch):
        return sum(
            tf.cast(n, tf.int64) for n in strategy.experimental_local_results(batch.examples)
        )
    data = batch.data if isinstance(batch, EvenReplicaBatch) else batch
    return sum(num_rows(_of_replica(strategy, data, replica)) for replica in range(count))


def _of_replica(strategy: tf.distribute.Strategy, batch: Any, replica: int) -> Any:
    """Returns the batch of one of this worker's replicas."""

    def own(part: Any) -> Any:
        is_distributed = isinstance(part, tf.distribute.DistributedValues)
        return strategy.experimental_local_results(part)[replica] if is_distributed else part

    return tf.nest.map_structure(own, batch)


def as_global_batch(strategy: tf.distribute.Strategy, batch: Any) -> GlobalBatch:
    """Returns a batch that lies in this process's memory.

    Raises:
        ValueError: If it is to be cut, and is empty or its parts have different numbers of rows.
    """
    tensors = tf.nest.map_structure(_as_tensor, batch)
    if strategy.num_replicas_in_sync > 1:
        refuse_unequal_rows(tensors)
        rows = static_rows(tensors)
        refuse_empty(equal_rows(tensors) if rows is None else rows)
    return GlobalBatch(tensors)


def _with_replicas(strategy: tf.distribute.Strategy, replica_batches: Sequence[Any]) -> Any:
    return strategy.experimental_distribute_values_from_function(
        lambda context: replica_batches[context.replica_id_in_sync_group % len(replica_batches)]
    )


def _as_tensor(part: Any) -> Any:
    if part is None or isinstance(part, tf.__internal__.CompositeTensor):
        return part
    return tf.convert_to_tensor(part)


@dataclass(frozen=True)
class InputBatch:
    """A batch of a stream, unlike one that a user hands over.

    Attributes:
        content: The replica batches, placed on their replicas, or a `GlobalBatch` to be cut.
    """

    content: Any


class Execution:
    """A stream of distributed batches and how many of them this execution takes.

    Attributes:
        strategy: The strategy whose replicas are fed.
        stream: Of batches; see `distribute_replica_batches`.
        count: Steps of this execution, or None for as many as there are.
        is_edge: Whether it begins or ends an epoch.
        is_end: Whether it ends one, so that the last batch may be smaller than the others.
        size: What has chosen `count`, or None.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        stream: Iterator[Any],
        count: int | None,
        is_edge: bool,
        is_end: bool,
        size: ExecutionSize | None = None,
    ) -> None:
        self.size = size
        self.strategy = strategy
        self.stream = stream
        self.count = count
        self.is_edge = is_edge
        self.is_end = is_end
        self._left = count

    def __iter__(self) -> Execution:
        return self

    def __next__(self) -> InputBatch:
        if self._left == 0:
            raise StopIteration
        if self._left is not None:
            self._left -= 1
        with phase("input"):
            content = next_batch(self.strategy, self.stream)
        progress = timed()
        if progress is not None:
            progress.note_examples(int(examples_of_worker(self.strategy, content)))
        return InputBatch(content)


def content_of(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """Returns what a function of steps takes for a batch: one of a stream, or a user's."""
    return batch.content if isinstance(batch, InputBatch) else as_global_batch(strategy, batch)


def replica_batches_of(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """Returns the replica batches of a batch that was handed over; in graphs or eagerly."""
    return replica_batches_of_global(strategy, batch) if isinstance(batch, GlobalBatch) else batch
