"""The input pipeline: global batches in an order that does not depend on workers and replicas.

Global batch t of an epoch has the same examples for any number of workers and replicas. Worker w
takes a contiguous slice of it, and replica r a contiguous slice of that.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.extension import (
    EvenReplicaBatch,
    ReplicaBatch,
    function,
    one_of,
    own_rows,
    strategy_of,
    truth,
    whole_number,
)
from tfscale.data.batches import (
    Cut,
    random_access_batches,
    read_ahead,
    replica_batches_of_step,
    same_rows,
    stream_batches,
)
from tfscale.data.cache.cached_source import CachedSource, cached
from tfscale.data.composition import filtered
from tfscale.data.composition.filters import Keep
from tfscale.data.order import BlockShuffle, Order, example_seeds
from tfscale.data.sources import (
    ArraySource,
    Division,
    EqualBatches,
    RandomAccessSource,
    Source,
    as_source,
)

_REMAINDERS = ("keep", "drop", "pad")

Preprocess = Callable[[Any], Any]
Augment = Callable[[Any, tf.Tensor], Any]


def input_pipeline(
    source: Any,
    strategy: tf.distribute.Strategy,
    global_batch_size: int = 256,
    *,
    shuffle: bool | BlockShuffle = True,
    seed: int = 0,
    drop_remainder: bool = False,
    remainder: str = "keep",
    cache: str | os.PathLike[str] | None = None,
    keep: Keep | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    shuffle_window: int = 10_000,
    data_dir: str | os.PathLike[str] | None = None,
) -> Pipeline:
    """Builds the input of `fit` for a strategy, with the same global batches for any strategy.

    Arrays, and the sources that functions of `tfscale.data` return for files, have random access:
    every epoch is a permutation of all examples, and a worker reads only its own. A
    `tf.data.Dataset` has none: it is shuffled within a window, and every worker reads it completely
    and keeps its slice. It is reproducible if the dataset is.

    An array of up to 1 GiB is copied into TensorFlow's memory. A larger one, and any `np.memmap`,
    is read in place. A list is treated as a tuple of arrays. Sparse tensors have no random access:
    pass them as a `tf.data.Dataset`.

    Args:
        source: Arrays in a tuple or dict, whose first dimension is the examples; a source of
            `tfscale.data`; an unbatched `tf.data.Dataset` with a known cardinality; or a TFDS name,
            "mnist" or "mnist:test".
        strategy: The strategy that trains on the data. Build it first.
        global_batch_size: Examples of all replicas in one step, at most the number of examples.
            Steps are fastest if it is a multiple of the number of replicas.
        shuffle: Whether every epoch has a new order: True for a permutation of all examples, or a
            `BlockShuffle` for files that are slow to read in any order. `predict` returns rows in
            the order of the data, so pass False for the order of the source.
        seed: Seed of the orders and of augmentation. In `[0, 2**31)`.
        drop_remainder: `drop_remainder=True` is `remainder="drop"`, as in tf.data.
        remainder: What becomes of the examples after an epoch's last full batch. "keep": the last
            batch is smaller, and is weighted correctly. "drop": they are omitted. "pad": every
            replica batch has the same static number of rows, so that nothing is compiled again
            on a TPU. Rows that are repeated for it have the sample weight 0 and are left out of
            losses, so that gradients are those of the examples, also with a sum or a mean by
            weights. Batches must be `(x, y)` or `(x, y, sample_weight)`. What combines rows without
            sample weights counts the padding: BatchNormalization, `metrics` that are not
            `weighted_metrics`, `add_loss`. The first two give a warning.
        cache: Where the decoded examples of the source are kept, so that they are read once:
            "memory" or a folder. It keeps them as they are before `keep`, `preprocess` and
            `augment`; `cached` and `mapped` have the options, and keep what `preprocess` makes.
        keep: Maps a batch of n examples of the source to bool [n], or None for all examples. It is
            evaluated once for each example when the pipeline is built; `filtered` can cache that.
        preprocess: Maps a batch, such as `(images, labels)`, to the input of the model. Each
            replica calls it on its replica batch, which has at least one row, so rows must not
            depend on each other.
        augment: Maps a batch and int64 [batch, 2] seeds for stateless random ops to a batch, also
            row by row. Applied after `preprocess`.
        shuffle_window: Size of the shuffle buffer for sources without random access, in examples.
            Positive.
        data_dir: Folder of prepared TFDS datasets, for a source given by name.

    Returns:
        A `Pipeline`. Pass it to `fit`, `evaluate` or `predict` as `x`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> strategy = strategies.mirrored_strategy(num_replicas=2)
        >>> pipeline = input_pipeline((np.eye(10), np.arange(10)), strategy, global_batch_size=4)
        >>> pipeline.steps_per_epoch
        3
    """
    cure = "Count examples."
    global_batch_size = whole_number("global_batch_size", global_batch_size, cure=cure)
    shuffle_window = whole_number("shuffle_window", shuffle_window, cure=cure)
    blocks = shuffle if isinstance(shuffle, BlockShuffle) else None
    is_shuffled = blocks is not None or truth("shuffle", shuffle)
    one_of("remainder", remainder, _REMAINDERS)
    if truth("drop_remainder", drop_remainder):
        if remainder == "pad":
            raise ValueError(
                "`remainder` must not be 'pad' with drop_remainder=True. Received: "
                f"remainder={remainder!r}, drop_remainder=True. Omit one of them."
            )
        remainder = "drop"
    for name, given in (("preprocess", preprocess), ("augment", augment)):
        if given is not None:
            function(name, given)
    strategy_of("strategy", strategy)
    seed = whole_number("seed", seed, at_least=0, below=2**31)
    examples = as_source(source, data_dir=data_dir)
    if cache is not None:
        if not isinstance(examples, RandomAccessSource):
            raise ValueError(
                "`cache` must be None for a tf.data.Dataset, which has no random access. Received: "
                f"cache={cache!r}. Use Dataset.cache."
            )
        try:
            examples = cached(examples, cache)
        except ValueError as error:
            raise ValueError(f"`cache` of input_pipeline, see `cached`: {error}") from error
    if keep is not None:
        examples = filtered(examples, keep)
    if global_batch_size > examples.num_examples:
        raise ValueError(
            f"`global_batch_size` must be at most {examples.num_examples}, the number of examples. "
            f"Received: global_batch_size={global_batch_size}. Use a smaller batch."
        )
    if blocks is not None and not isinstance(examples, RandomAccessSource):
        raise ValueError(
            "`shuffle` must be True or False for a tf.data.Dataset, which has no random access. "
            f"Received: shuffle={blocks!r}. Use shuffle_window."
        )
    if remainder == "pad" and not isinstance(examples, RandomAccessSource):
        raise ValueError(
            "`remainder` must be 'keep' or 'drop' for a tf.data.Dataset, which has no random "
            f"access. Received: remainder={remainder!r}. Use 'drop' for static shapes."
        )
    order = Order(seed if is_shuffled else None, blocks)
    is_dropped = remainder == "drop"
    if isinstance(examples, RandomAccessSource):
        division = examples.division(global_batch_size, drop_remainder=is_dropped)
    else:
        division = EqualBatches(examples.num_examples, global_batch_size, is_dropped)
    return Pipeline(
        source=examples,
        strategy=strategy,
        division=division,
        order=order,
        remainder=remainder,
        seed=seed,
        preprocess=preprocess,
        augment=augment,
        shuffle_window=shuffle_window,
    )


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Global batches of a source for the replicas of a strategy. Pass it to `fit` as `x`.

    Attributes:
        source: The examples.
        strategy: The strategy that trains on the data.
        division: Which positions of an epoch each global batch has.
        order: The order of the examples.
        remainder: "keep", "drop" or "pad"; see `input_pipeline`.
        seed: Seed of the orders and of augmentation. Not negative.
        preprocess: Maps a batch, such as `(images, labels)`, to the input of the model, or None.
        augment: Maps a batch and int64 [batch, 2] seeds, one per example, to a batch, or None.
        shuffle_window: Size of the shuffle buffer for sources without random access, in examples.
        first_epoch: The epoch in which the stream starts.
        first_step: The number of batches of that epoch that were already consumed.
    """

    source: Source
    strategy: tf.distribute.Strategy
    division: Division
    order: Order
    remainder: str
    seed: int
    preprocess: Preprocess | None
    augment: Augment | None
    shuffle_window: int
    first_epoch: int = 0
    first_step: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Number of global batches per epoch."""
        return self.division.steps

    @property
    def global_batch_size(self) -> int:
        """Examples of a full global batch."""
        return self.division.batch_size

    @property
    def local_replicas(self) -> int:
        """Replicas of one worker, also for a strategy that lists devices of all hosts."""
        names = self.strategy.extended.worker_devices
        devices = [tf.DeviceSpec.from_string(name) for name in names]
        return len(devices) // len({(spec.job, spec.replica, spec.task) for spec in devices})

    @property
    def shuffle(self) -> bool | BlockShuffle:
        """Whether every epoch has a new order, or how blocks are shuffled."""
        return self.order.blocks or self.order.seed is not None

    @property
    def drop_remainder(self) -> bool:
        """Whether the examples after the last full batch of an epoch are omitted."""
        return self.remainder == "drop"

    @property
    def source_fingerprint(self) -> str | None:
        """What tells the source from another, or None for arrays and a `tf.data.Dataset`."""
        source = self.source.parts[0] if isinstance(self.source, CachedSource) else self.source
        if isinstance(source, ArraySource) or not isinstance(source, RandomAccessSource):
            return None  # as in checkpoints of earlier versions
        return source.fingerprint

    # Once: the stream is traced for it, and Python 3.11 reads it in each isinstance of a protocol.
    @functools.cached_property
    def element_spec(self) -> Any:
        """Structure of `tf.TypeSpec` of one replica's batch."""
        return self.local(0).element_spec

    def at(self, epoch: int, step: int = 0) -> Pipeline:
        """Returns this pipeline, starting after `epoch` whole epochs and `step` global batches.

        Args:
            epoch: Not negative.
            step: In `[0, steps_per_epoch)`.

        Returns:
            A `Pipeline` that continues exactly as this one from that position.

        Raises:
            ValueError: If the position is out of range.
        """
        cure = "A finished epoch is `at(epoch + 1)`."
        return dataclasses.replace(
            self,
            first_epoch=whole_number("epoch", epoch, at_least=0),
            first_step=whole_number(
                "step", step, at_least=0, below=self.steps_per_epoch, cure=cure
            ),
        )

    def distributed(self) -> Any:
        """Returns the endless stream as a distributed dataset, for a custom training loop."""
        return self.strategy.distribute_datasets_from_function(
            lambda context: self.local(context.input_pipeline_id)
        )

    def local(self, worker: int) -> tf.data.Dataset:
        """Returns the endless replica batches of one worker, replica after replica in each step.

        Args:
            worker: Index of the worker, from 0.

        Raises:
            ValueError: If the strategy has no such worker.
        """
        return self.replica_batches(worker).map(own_rows)

    def replica_batches(self, worker: int) -> tf.data.Dataset:
        """Returns the batches of `local` with the row counts that `fit` needs.

        A replica without examples gets an example of another replica, with weight 0. The elements
        are `strategies.global_batches.ReplicaBatch`, or `EvenReplicaBatch` if shapes are static.
        """
        local_replicas = self.local_replicas
        num_replicas = self.strategy.num_replicas_in_sync
        if not 0 <= worker < num_replicas // local_replicas:
            raise ValueError(
                f"`worker` must be in [0, {num_replicas // local_replicas}). Received: "
                f"worker={worker!r}. Workers count from 0."
            )
        cut = self._cut(worker * local_replicas, local_replicas, num_replicas)
        if isinstance(self.source, RandomAccessSource):
            replica_batches = random_access_batches(self.source, cut, self._prepare)
        else:
            replica_batches = stream_batches(
                self.source, cut, self._prepare, window=self.shuffle_window
            )
        most_rows = -(-self.global_batch_size // num_replicas)
        return replica_batches.prefetch(
            read_ahead(replica_batches.element_spec, most_rows, local_replicas)
        )

    def _cut(self, first_replica: int, local_replicas: int, num_replicas: int) -> Cut:
        return Cut(
            division=self.division,
            order=self.order,
            is_padded=self.remainder == "pad",
            first_epoch=self.first_epoch,
            first_step=self.first_step,
            first_replica=first_replica,
            local_replicas=local_replicas,
            num_replicas=num_replicas,
        )

    def _prepare(self, batch: Any, positions: tf.Tensor, epoch: tf.Tensor) -> Any:
        if self.preprocess is not None:
            batch = same_rows("preprocess", self.preprocess(batch), positions)
        if self.augment is not None:
            seeds = example_seeds(positions, epoch, self.seed)
            batch = same_rows("augment", self.augment(batch, seeds), positions)
        return batch


def replica_batches_at(
    pipeline: Pipeline,
    first_replica: int,
    local_replicas: int,
    num_replicas: int,
    epoch: tf.Tensor,
    step: tf.Tensor,
) -> list[ReplicaBatch | EvenReplicaBatch]:
    """Returns the replica batches of one step: the elements of `Pipeline.replica_batches`. Traced.

    Args:
        pipeline: A pipeline of a source with random access. Its strategy and where it begins are
            not used.
        first_replica: Index of the first replica.
        local_replicas: Number of replicas. Positive.
        num_replicas: Replicas of all workers.
        epoch: int64 scalar, not negative.
        step: int64 scalar, in `[0, pipeline.steps_per_epoch)`.
    """
    assert isinstance(pipeline.source, RandomAccessSource)
    cut = pipeline._cut(first_replica, local_replicas, num_replicas)
    return replica_batches_of_step(pipeline.source, cut, pipeline._prepare, epoch, step)
