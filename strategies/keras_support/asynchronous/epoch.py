"""The epoch iterator of asynchronous training: hands out steps, for which workers read batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer
from keras.src.trainers.epoch_iterator import EpochIterator

from strategies.global_batches import EvenReplicaBatch, GlobalBatches, ReplicaBatch
from strategies.keras_support.asynchronous.executions import num_workers, wait_until_idle
from strategies.keras_support.asynchronous.input import (
    FunctionAdapter,
    distribute_to_workers,
    worker_stream,
)
from strategies.keras_support.input.current_fit import note_input
from strategies.keras_support.input.pipeline_adapter import GlobalBatchesAdapter, adapted


@dataclass(frozen=True)
class WorkerExecution:
    """One execution: steps for any free worker.

    Attributes:
        streams: Every worker's own batches, which only the workers can read.
        spec: `tf.TypeSpec` of one of the streams.
        count: Steps of this execution. Positive.
        is_end: Whether it is the last of an epoch.
    """

    streams: Any
    spec: Any
    count: int
    is_end: bool


class AsynchronousEpochIterator(keras_trainer.TFEpochIterator):
    """Counts the steps of an epoch, which are those of all workers together."""

    def __init__(self, distribute_strategy: tf.distribute.Strategy, x: Any, **arguments: Any):
        note_input(distribute_strategy, self)
        _refuse_steps(arguments.get("steps_per_epoch"))
        if isinstance(x, GlobalBatches):
            x = adapted(x, distribute_strategy, arguments)
        elif callable(x):
            _refuse_beside_function(arguments)
            x = FunctionAdapter(x, arguments.pop("class_weight", None))
        EpochIterator.__init__(self, x=x, **arguments)
        self._distribute_strategy = distribute_strategy
        self._workers = num_workers(distribute_strategy)
        self._first_step = 0
        self._streams: Any = None
        self._of_worker = worker_stream(self.data_adapter, self._workers, 0)
        if self.steps_in_epoch() is None:
            raise ValueError(
                "`steps_per_epoch` must be set under parameter servers if the number of batches "
                "is unknown. It counts the steps of all workers. Received: "
                f"steps_per_epoch={self.steps_per_epoch!r} for "
                f"{type(x).__name__}. Divide the number of examples by the batch size; do not "
                "divide by the number of workers."
            )
        if not self.steps_in_epoch():
            raise ValueError(
                f"`x` must have at least one batch. Received: an empty {type(x).__name__}. Check "
                "for empty files and for filters."
            )

    def begin_at(self, step: int, batches: int) -> None:
        """Skips `batches` before the first epoch, each worker its part.

        How many each of them had read is not known, and does not matter to training.

        Args:
            step: Steps of the first epoch that are skipped.
            batches: Steps of all workers that were taken before, in all.
        """
        first = batches // self._workers
        self._of_worker = worker_stream(self.data_adapter, self._workers, first)
        self._first_step = step

    def replica_spec(self) -> Any:
        """Returns the structure of `tf.TypeSpec` of one step's batch."""
        spec = self._of_worker(0).element_spec
        return spec.data if isinstance(spec, (ReplicaBatch, EvenReplicaBatch)) else spec

    def steps_in_epoch(self) -> int | None:
        """Returns the steps of an epoch, or None where the input does not tell."""
        total: int | None = self.steps_per_epoch or self.data_adapter.num_batches
        return total

    def refuse_unseekable(self) -> None:
        """Does nothing: what every worker reads can be read again from any batch."""

    def order(self) -> str:
        """Returns what the order of the batches follows from, to compare with an earlier run's."""
        adapter = self.data_adapter
        return adapter.order() if isinstance(adapter, GlobalBatchesAdapter) else "each worker's own"

    def _enumerate_iterator(self) -> Iterator[tuple[int, int, Any]]:
        total = self.steps_in_epoch()
        assert total is not None
        if self._streams is None:
            self._streams, self._spec = distribute_to_workers(
                self._distribute_strategy, self._of_worker, self._workers
            )
        step, self._first_step = self._first_step, 0
        while step < total:
            count = min(self.steps_per_execution, total - step)
            is_end = step + count == total
            yield step, step + count - 1, WorkerExecution(self._streams, self._spec, count, is_end)
            step += count

    def __next__(self) -> Any:
        return next(self._epoch_iterator)

    @contextlib.contextmanager
    def catch_stop_iteration(self) -> Iterator[None]:
        """Ends an epoch, also if a callback stops it: waits for all running steps."""
        yield
        wait_until_idle(self._distribute_strategy)


def _refuse_steps(steps: Any) -> None:
    if steps is None:
        return
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise ValueError(
            "`steps_per_epoch` must be a positive integer or None under parameter servers. It "
            f"counts the steps of all workers. Received: steps_per_epoch={steps!r}"
            ". Divide the number of examples by the batch size and round."
        )


def _refuse_beside_function(arguments: dict[str, Any]) -> None:
    for name in ("y", "sample_weight"):
        if arguments.get(name) is not None:
            raise ValueError(
                f"`{name}` must be None if `x` is a function, because its dataset yields it. "
                f"Received: {name} of type {type(arguments[name]).__name__}. Make it part of the "
                "dataset."
            )
