"""The epoch iterator: takes global batches, and yields a replica batch for every replica.

If the number of batches is known, steps are counted: workers need not ask each other "have you
more?" before each step, and the last execution of an epoch (`steps_per_execution`, C4) takes the
remaining steps. If it is not known (a generator), batches are fetched one by one, so a step runs
only when there is data for it (S7).

A dataset is iterated again when stock Keras would iterate it again, so one that reshuffles has the
same order in every epoch as on one device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer
from keras.src.trainers.data_adapters import array_data_adapter, tf_dataset_adapter
from keras.src.trainers.epoch_iterator import EpochIterator
from tensorflow.python.eager import context

from strategies.cluster.environments import own_data_workers
from strategies.coordination.data_agreement import (
    UNSEEDED,
    agreed_seed,
    refuse_disagreeing_lengths,
    refuse_disagreeing_shuffles,
    shuffle_seeds,
)
from strategies.global_batches import (
    EvenReplicaBatch,
    GlobalBatch,
    GlobalBatches,
    ReplicaBatch,
    as_global_batches,
    counted_replica_batches,
    replica_batch_spec,
)
from strategies.keras_support.input.current_fit import note_input
from strategies.keras_support.input.end_of_input import EndTogether, refuse_unequal_ends
from strategies.keras_support.input.execution_size import ExecutionSize
from strategies.keras_support.input.input_agreement import FirstBatch
from strategies.keras_support.input.pipeline_adapter import GlobalBatchesAdapter, adapted
from strategies.keras_support.input.replica_stream import (
    Execution,
    distribute_replica_batches,
    is_plain,
    next_batch,
)
from strategies.keras_support.patching.ownership import is_multi_worker


class ReplicaEpochIterator(keras_trainer.TFEpochIterator):
    """Keras's epoch iterator over the replica batches of a strategy's replicas.

    Attributes:
        execution_size: Chooses the steps of each execution; None for `steps_per_execution`.
    """

    def __init__(self, distribute_strategy: tf.distribute.Strategy, x: Any, **arguments: Any):
        _refuse_in_data_worker()
        note_input(distribute_strategy, self)
        if isinstance(x, GlobalBatches):
            x = adapted(x, distribute_strategy, arguments)
        EpochIterator.__init__(self, x=x, **arguments)
        self.execution_size: ExecutionSize | None = None
        self._distribute_strategy = distribute_strategy
        self._goes_on = False
        self._first_step = 0
        self._current_iterator: Any = None
        self._executing = 0
        self._is_together = is_multi_worker(distribute_strategy)
        self._first_batch: FirstBatch | None = None
        if self._is_together:
            self._first_batch = FirstBatch(distribute_strategy, self.data_adapter)
        self._distributed_dataset = self._distribute()

    def begin_at(self, step: int, batches: int) -> None:
        """Skips `step` steps of the first epoch, `batches` in all; called before that epoch.

        A pipeline begins there. Other input is read and dropped. Earlier epochs that began at the
        first batch are not read, but an iterator is made for each, because a shuffle counts them.
        """
        adapter: Any = self.data_adapter
        if isinstance(adapter, GlobalBatchesAdapter):
            self.data_adapter: Any = adapter.after(batches)
            self._distributed_dataset = self._distribute()
            self._begin_stream()
            self._steps_seen = batches % adapter.num_batches
        else:
            total = self.steps_in_epoch() or 1
            for _ in range((batches - step) // total):
                for *_, steps in self._counted(total):
                    if self._goes_on or self.steps_per_epoch:
                        for _ in steps:
                            pass
            if step:
                self._begin_stream()
                for _ in range(step):
                    next_batch(self._distribute_strategy, self._current_iterator)
                self._steps_seen += step
        self._first_step = step

    def replica_spec(self) -> Any:
        """Returns the structure of `tf.TypeSpec` of one replica's batch."""
        whole = self._distributed_dataset.element_spec
        if isinstance(whole, GlobalBatch):
            return replica_batch_spec(whole.data, self._distribute_strategy.num_replicas_in_sync)
        spec = tf.nest.map_structure(lambda spec: getattr(spec, "_value_specs", (spec,))[0], whole)
        return spec.data if isinstance(spec, (ReplicaBatch, EvenReplicaBatch)) else spec

    def _distribute(self) -> Any:
        strategy, adapter = self._distribute_strategy, self.data_adapter
        if isinstance(adapter, GlobalBatchesAdapter):
            self._goes_on = True
            if self._first_batch is not None:
                self._first_batch.compare()
            return distribute_replica_batches(strategy, adapter.local, is_counted=True)
        dataset = self._dataset_alike_on_all_workers()
        if not isinstance(dataset, tf.data.Dataset):
            return dataset  # distributed by the user
        count, total = len(strategy.extended.worker_devices), strategy.num_replicas_in_sync
        is_counted = self.steps_in_epoch() is not None

        def local(worker: int) -> tf.data.Dataset:
            if total == 1:
                return dataset.prefetch(2)
            if is_plain(strategy, is_counted=is_counted):
                return as_global_batches(dataset).prefetch(2)
            batches = counted_replica_batches(dataset, worker * count, count, total)
            return batches.prefetch(2 * count)

        rereadable = (array_data_adapter.ArrayDataAdapter, tf_dataset_adapter.TFDatasetAdapter)
        return distribute_replica_batches(
            strategy,
            local,
            is_counted=is_counted,
            is_rereadable=isinstance(adapter, rereadable),
        )

    def _dataset_alike_on_all_workers(self) -> Any:
        strategy, adapter = self._distribute_strategy, self.data_adapter
        if not is_multi_worker(strategy):
            return adapter.get_tf_dataset()
        with agreed_seed(strategy) as is_drawn:
            dataset = adapter.get_tf_dataset()
        if not isinstance(dataset, tf.data.Dataset):
            self._first_batch = None
            return dataset  # distributed by the user
        is_array = isinstance(adapter, array_data_adapter.ArrayDataAdapter)
        last = adapter.partial_batch_size if is_array else None  # others do not know it
        assert self._first_batch is not None
        digests = refuse_disagreeing_lengths(
            strategy, adapter.num_batches, adapter.batch_size, last, self._first_batch.at_hand()
        )
        self._first_batch.compare_at_hand(digests)
        if isinstance(adapter, tf_dataset_adapter.TFDatasetAdapter):
            refuse_disagreeing_shuffles(strategy, dataset)
        elif is_drawn and is_array:
            # The shuffle has no seed: Keras draws another order each epoch. Iterated again, the
            # seed that was agreed on would give the first one again.
            self._goes_on = True
            dataset = dataset.repeat()
        return self._first_batch.seen_in(dataset)

    def steps_in_epoch(self) -> int | None:
        """Returns the steps of an epoch, or None where the input does not tell."""
        # Not `_num_batches`, where Keras notes what it came to.
        total: int | None = self.steps_per_epoch or self.data_adapter.num_batches
        return total

    def may_end_early(self) -> bool:
        """Tells whether uncounted input may end within the steps of an epoch."""
        if self.data_adapter.num_batches is not None:
            return False
        dataset = self.data_adapter.get_tf_dataset()
        is_dataset = isinstance(dataset, tf.data.Dataset)
        return not (is_dataset and dataset.cardinality() == tf.data.INFINITE_CARDINALITY)

    def refuse_unseekable(self) -> None:
        """Checks that the input can be read again from its beginning, in the same batches.

        Raises:
            ValueError: If it cannot: a generator, a `PyDataset`, or an unknown number of batches.
        """
        adapter = self.data_adapter
        if isinstance(adapter, (GlobalBatchesAdapter, array_data_adapter.ArrayDataAdapter)):
            return
        if (
            isinstance(adapter, tf_dataset_adapter.TFDatasetAdapter)
            and self.steps_in_epoch() is not None
            and isinstance(adapter.get_tf_dataset(), tf.data.Dataset)  # not a distributed one
        ):
            return
        raise ValueError(
            "`x` must be input that can be read from any batch, to be checkpointed: a "
            "tfscale.data pipeline, arrays, or a tf.data.Dataset with a known number of batches. "
            f"Received: {type(adapter).__name__} with {self.steps_in_epoch()} batches an epoch. "
            "Use tfscale.data.input_pipeline, or give a dataset its length with "
            "tf.data.experimental.assert_cardinality."
        )

    def order(self) -> str:
        """Returns what the order of the batches follows from, to compare with an earlier run's.

        Raises:
            ValueError: If it is not reproducible: a shuffle without a seed.
        """
        adapter = self.data_adapter
        if isinstance(adapter, GlobalBatchesAdapter):
            return adapter.order()
        if isinstance(adapter, array_data_adapter.ArrayDataAdapter):
            seed = context.global_seed()
            if adapter._shuffle and seed is None:
                raise _unseeded("arrays that `fit` shuffles")
            order = f"shuffled with the seed {seed}" if adapter._shuffle else "in order"
            return f"arrays in batches of {adapter.batch_size}, {order}"
        seeds = shuffle_seeds(adapter.get_tf_dataset())
        if UNSEEDED in seeds:
            raise _unseeded("a dataset")
        return f"a dataset with the shuffles {seeds}"

    def _enumerate_iterator(self) -> Iterator[tuple[int, int, Any]]:
        self.data_adapter.on_epoch_begin()
        total = self.steps_in_epoch()
        for execution in self._until_the_end() if total is None else self._counted(total):
            yield execution
            if self._first_batch is not None:  # by now it has been read
                self._first_batch.compare()
        self.data_adapter.on_epoch_end()

    def _begin_stream(self) -> None:
        if self._current_iterator is None or not (self._goes_on or self.steps_per_epoch):
            self._current_iterator = iter(self._distributed_dataset)
            self._steps_seen = 0

    def _counted(self, total: int) -> Iterator[tuple[int, int, Execution]]:
        if not self._first_step:
            self._begin_stream()
        step, self._first_step = self._first_step, 0
        while step < total:
            chosen = self.execution_size
            size = self.steps_per_execution if chosen is None else chosen.steps
            count = min(size, total - step)
            if self.steps_per_epoch and self._num_batches:
                count = min(count, self._num_batches - self._steps_seen)
                if count == 0:
                    if self._is_together:  # the lengths of what users distribute are not compared
                        refuse_unequal_ends(self._distribute_strategy, step, total)
                    self._interrupted_warning()
                    break
            self._steps_seen += count
            self._executing = step
            is_end = step + count >= total
            execution = Execution(
                self._distribute_strategy,
                self._current_iterator,
                count,
                step == 0 or is_end,
                is_end,
                chosen,
            )
            yield step, step + count - 1, execution
            step += count
        if self._num_batches and self._steps_seen >= self._num_batches:
            self._steps_seen = 0
            if not self._goes_on:
                # Here already, as in Keras, for a shuffle counts its readers; but a distributed
                # one would begin to read.
                is_plain = isinstance(self._distributed_dataset, tf.data.Dataset)
                self._current_iterator = iter(self._distributed_dataset) if is_plain else None

    def _until_the_end(self) -> Iterator[tuple[int, int, Execution]]:
        stream: Any = iter(self._distributed_dataset)
        if self._is_together and isinstance(stream, tf.data.Iterator):
            stream = EndTogether(self._distribute_strategy, stream)
        size = self.steps_per_execution
        step = 0
        while True:
            self._steps_seen = step
            execution = Execution(
                self._distribute_strategy, stream, None, is_edge=True, is_end=False
            )
            yield step, step + size - 1, execution
            step += size

    @contextlib.contextmanager
    def catch_stop_iteration(self) -> Iterator[None]:
        """Lets input end early only if it does so on all workers."""
        with super().catch_stop_iteration():
            try:
                yield
            except (StopIteration, tf.errors.OutOfRangeError):
                if self._is_together and self.steps_in_epoch() is not None:
                    refuse_unequal_ends(
                        self._distribute_strategy, self._executing, self.steps_in_epoch()
                    )
                raise


def _refuse_in_data_worker() -> None:
    """Raises in a data worker, which would otherwise train a second time, into the same files."""
    workers = own_data_workers()
    if workers is not None and workers.index is not None:
        raise RuntimeError(
            f"This process is data worker {workers.index}, and computes input for others. Call "
            "tfscale.data.served(pipeline) before `fit`, `evaluate` or `predict`; in a data worker "
            "that call serves the input and does not return."
        )


def _unseeded(what: str) -> ValueError:
    return ValueError(
        "`x` must come in a reproducible order for training to resume in mid-epoch. "
        f"Received: {what} without a seed. Call keras.utils.set_random_seed first, use "
        "tfscale.data.input_pipeline, or checkpoint only at the ends of epochs: every='epoch'."
    )
