"""The input pipeline: one order of global batches, whoever trains on them.

Global batch t of an epoch holds the same examples for any number of workers and replicas; worker w
takes its contiguous slice of it, and replica r its contiguous slice of that.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.extension import function, own_rows, strategy_of, truth, whole_number
from tfscale.data.batches import Cut, array_batches, same_rows, stream_batches
from tfscale.data.order import example_seeds
from tfscale.data.sources import ArraySource, Source, as_source

Preprocess = Callable[[Any], Any]
Augment = Callable[[Any, tf.Tensor], Any]


def input_pipeline(
    source: Any,
    strategy: tf.distribute.Strategy,
    global_batch_size: int = 256,
    *,
    shuffle: bool = True,
    seed: int = 0,
    drop_remainder: bool = False,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    shuffle_window: int = 10_000,
    data_dir: str | os.PathLike[str] | None = None,
) -> Pipeline:
    """Builds the input of `fit` for a strategy: each example once an epoch, the same for any N.

    Arrays and TFDS sets that fit in memory have random access: every epoch is a permutation of all
    examples. Other sources are shuffled within a window, and every worker reads all of them and
    keeps its slice; they are reproducible as far as the source itself is.

    An array of up to 1 GiB is copied into TensorFlow's memory; a longer one, and any `np.memmap`,
    is read where it lies. A list is a tuple of arrays here. Sparse tensors have no random access:
    pass them as a `tf.data.Dataset`.

    Args:
        source: Arrays in a tuple or dict, first dimension the examples; a `tf.data.Dataset` of
            single examples with a known cardinality; or a TFDS name, "mnist" or "mnist:test".
        strategy: The strategy whose replicas are fed. Build it first.
        global_batch_size: Examples of all replicas in one step. A multiple of the replicas, at most
            the number of examples.
        shuffle: Whether to give every epoch an order of its own. `predict` returns rows in the
            order they come in: without, that is the source's.
        seed: Seed of these orders and of augmentation. In `[0, 2**31)`.
        drop_remainder: Whether to leave out the examples after an epoch's last full batch. Without
            it that batch is smaller, and still trained exactly.
        preprocess: Maps a batch, such as `(images, labels)`, to what the model takes. Each replica
            calls it on its own rows, so no row may depend on others; never on none.
        augment: Maps a batch and int64 [batch, 2] seeds for stateless random ops to a batch, row
            by row as well. Comes after `preprocess`.
        shuffle_window: Examples that a source without random access is shuffled among. Positive.
        data_dir: Folder of prepared TFDS sets, for a source given by name.

    Returns:
        A `Pipeline`. Pass it to `fit`, `evaluate` or `predict` as `x`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> strategy = strategies.mirrored_strategy(num_replicas=2)
        >>> pipeline = input_pipeline((np.eye(10), np.arange(10)), strategy, global_batch_size=4)
        >>> pipeline.steps_per_epoch
        3
    """
    cure = "Count examples."
    global_batch_size = whole_number("global_batch_size", global_batch_size, cure=cure)
    shuffle_window = whole_number("shuffle_window", shuffle_window, cure=cure)
    shuffle = truth("shuffle", shuffle)
    drop_remainder = truth("drop_remainder", drop_remainder)
    for name, given in (("preprocess", preprocess), ("augment", augment)):
        if given is not None:
            function(name, given)
    num_replicas = strategy_of("strategy", strategy).num_replicas_in_sync
    if global_batch_size % num_replicas:
        nearest = max(1, round(global_batch_size / num_replicas)) * num_replicas
        raise ValueError(
            f"`global_batch_size` must be a multiple of the {num_replicas} replicas. Received: "
            f"global_batch_size={global_batch_size}. Use {nearest}."
        )
    seed = whole_number("seed", seed, at_least=0, below=2**31)
    examples = as_source(source, data_dir=data_dir)
    if global_batch_size > examples.num_examples:
        raise ValueError(
            f"`global_batch_size` must be at most {examples.num_examples}, the examples of the "
            f"source. Received: global_batch_size={global_batch_size}. Use a smaller batch."
        )
    return Pipeline(
        source=examples,
        strategy=strategy,
        global_batch_size=global_batch_size,
        shuffle=shuffle,
        seed=seed,
        drop_remainder=drop_remainder,
        preprocess=preprocess,
        augment=augment,
        shuffle_window=shuffle_window,
    )


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Global batches of a source, for the replicas of a strategy. Pass it to `fit` as `x`.

    Attributes:
        source: The examples.
        strategy: The strategy whose replicas are fed.
        global_batch_size: Examples of a global batch.
        shuffle: Whether every epoch has an order of its own.
        seed: Seed of these orders and of augmentation. Not negative.
        drop_remainder: Whether the examples after the last full batch of an epoch are left out.
        preprocess: Maps a batch, such as `(images, labels)`, to what the model takes, or None.
        augment: Maps a batch and int64 [batch, 2] seeds, one an example, to a batch, or None.
        shuffle_window: Examples that a source without random access is shuffled among.
        first_epoch: The epoch the stream starts in.
        first_step: The step of that epoch it starts with, a position of *consumed* batches.
    """

    source: Source
    strategy: tf.distribute.Strategy
    global_batch_size: int
    shuffle: bool
    seed: int
    drop_remainder: bool
    preprocess: Preprocess | None
    augment: Augment | None
    shuffle_window: int
    first_epoch: int = 0
    first_step: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Global batches an epoch."""
        full, rest = divmod(self.source.num_examples, self.global_batch_size)
        return full + (1 if rest and not self.drop_remainder else 0)

    @property
    def element_spec(self) -> Any:
        """Structure of `tf.TypeSpec` of one replica's batch."""
        return self.local(0).element_spec

    def at(self, epoch: int, step: int = 0) -> Pipeline:
        """Returns this pipeline, started after `epoch` whole epochs and `step` global batches.

        Args:
            epoch: Not negative.
            step: In `[0, steps_per_epoch)`.

        Returns:
            A `Pipeline` that continues exactly as this one does from there on.

        Raises:
            ValueError: If there is no such position.
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
        """Returns the endless stream as a distributed dataset, for a training loop of yours."""
        return self.strategy.distribute_datasets_from_function(
            lambda context: self.local(context.input_pipeline_id)
        )

    def local(self, worker: int) -> tf.data.Dataset:
        """Returns the endless batches of one worker's replicas, replica after replica in each step.

        Args:
            worker: Index of the worker, from 0.

        Raises:
            ValueError: If the strategy has no such worker.
        """
        return self.replica_batches(worker).map(own_rows)

    def replica_batches(self, worker: int) -> tf.data.Dataset:
        """Returns what `local` does, for `fit`: each with its examples and the whole batch's.

        A replica without examples has one of another's, which counts for nothing. The elements are
        `strategies.global_batches.ReplicaBatch`, or `EvenReplicaBatch` where shapes are static.
        """
        local_replicas = _replicas_a_worker(self.strategy)
        num_replicas = self.strategy.num_replicas_in_sync
        if not 0 <= worker < num_replicas // local_replicas:
            raise ValueError(
                f"`worker` must be in [0, {num_replicas // local_replicas}). Received: "
                f"worker={worker!r}. Workers count from 0."
            )
        cut = Cut(
            steps=self.steps_per_epoch,
            size=self.global_batch_size,
            seed=self.seed if self.shuffle else None,
            first_epoch=self.first_epoch,
            first_step=self.first_step,
            first_replica=worker * local_replicas,
            local_replicas=local_replicas,
            num_replicas=num_replicas,
        )
        if isinstance(self.source, ArraySource):
            replica_batches = array_batches(self.source, cut, self._prepare)
        else:
            replica_batches = stream_batches(
                self.source, cut, self._prepare, window=self.shuffle_window
            )
        return replica_batches.prefetch(max(2 * local_replicas, 4))

    def _prepare(self, batch: Any, positions: tf.Tensor, epoch: tf.Tensor) -> Any:
        if self.preprocess is not None:
            batch = same_rows("preprocess", self.preprocess(batch), positions)
        if self.augment is not None:
            seeds = example_seeds(positions, epoch, self.seed)
            batch = same_rows("augment", self.augment(batch, seeds), positions)
        return batch


def _replicas_a_worker(strategy: tf.distribute.Strategy) -> int:
    """A strategy names its own worker's devices, or those of all hosts of a TPU slice."""
    devices = [tf.DeviceSpec.from_string(name) for name in strategy.extended.worker_devices]
    return len(devices) // len({(spec.job, spec.replica, spec.task) for spec in devices})
