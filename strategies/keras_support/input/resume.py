"""Where a resumed `fit` begins: its epoch, its first step, and callbacks that know each other.

Keras hands a callback neither the input nor the other callbacks, and numbers steps from 0 whatever
was consumed before. Here a callback that asks for it (`SeesCallbacks`) is handed the list before
any other begins, and the input of the `fit` that is beginning is found and moved on.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol, runtime_checkable

import tensorflow as tf
from keras.src.trainers.data_adapters import array_data_adapter, tf_dataset_adapter
from tensorflow.python.eager import context

from strategies.coordination.data_agreement import UNSEEDED, shuffle_seeds
from strategies.keras_support.asynchronous.epoch import AsynchronousEpochIterator
from strategies.keras_support.input.current_fit import latest_initial_epoch, latest_input
from strategies.keras_support.input.epoch_iterator import ReplicaEpochIterator
from strategies.keras_support.input.pipeline_adapter import GlobalBatchesAdapter


@runtime_checkable
class SeesCallbacks(Protocol):
    """A callback that is handed the list it stands in."""

    def see_callbacks(self, callbacks: list[Any]) -> None:
        """Called before any callback's `on_train_begin`; may put the list in another order."""


class FitInput:
    """The input of the `fit` that is beginning, as a callback's `on_train_begin` finds it.

    Args:
        model: A model under one of our strategies.

    Attributes:
        steps_per_epoch: Global batches an epoch, or None where nobody knows.
        initial_epoch: The epoch that `fit` was told to begin with.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._iterator: ReplicaEpochIterator | AsynchronousEpochIterator = latest_input(
            model.distribute_strategy
        )
        self.steps_per_epoch = self._iterator.steps_in_epoch()
        self.initial_epoch = latest_initial_epoch(model.distribute_strategy)

    def refuse_unseekable(self) -> None:
        """Checks that the input can be read again from its beginning, in the same batches.

        Raises:
            ValueError: If it cannot: a generator, a `PyDataset`, or an unknown number of batches.
        """
        adapter = self._iterator.data_adapter
        if isinstance(self._iterator, AsynchronousEpochIterator):
            return  # every worker can
        if isinstance(adapter, (GlobalBatchesAdapter, array_data_adapter.ArrayDataAdapter)):
            return
        if (
            isinstance(adapter, tf_dataset_adapter.TFDatasetAdapter)
            and self.steps_per_epoch is not None
            and isinstance(adapter.get_tf_dataset(), tf.data.Dataset)  # not a distributed one
        ):
            return
        raise ValueError(
            "`x` must be input that can be read again from any batch to be checkpointed: a "
            "tfscale.data pipeline, arrays, or a tf.data.Dataset with a known number of batches. "
            f"Received: {type(adapter).__name__} with {self.steps_per_epoch} batches an epoch. "
            "Use tfscale.data.input_pipeline, or give a dataset its length with "
            "tf.data.experimental.assert_cardinality."
        )

    def order(self) -> str:
        """Returns what the order of the batches follows from, to compare with an earlier run's.

        Raises:
            ValueError: If it follows from nothing: a shuffle without a seed.
        """
        adapter = self._iterator.data_adapter
        if isinstance(adapter, GlobalBatchesAdapter):
            return adapter.order()
        if isinstance(self._iterator, AsynchronousEpochIterator):
            return "each worker's own"
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

    def begin_at(self, epoch: int, step: int, batches: int) -> None:
        """Lets `fit` begin in `epoch` with step `step`, and the input with batch `batches`.

        Args:
            epoch: The epoch, from 0.
            step: Steps of that epoch that were taken already.
            batches: Global batches that were consumed in all.
        """
        self._model._initial_epoch = epoch  # fit reads it after on_train_begin
        self._iterator.begin_at(step, batches)


def end_resumption(model: Any) -> None:
    """Forgets the epoch, so that the next `fit` begins where it is told to."""
    model._initial_epoch = None


def _unseeded(what: str) -> ValueError:
    return ValueError(
        "`x` must come in an order that can be had again, for training to resume in mid-epoch. "
        f"Received: {what} without a seed. Call keras.utils.set_random_seed first, use "
        "tfscale.data.input_pipeline, or checkpoint at the ends of epochs alone: every='epoch'."
    )


def callbacks_shown_first(on_train_begin: Any) -> Any:
    """Stands in for `CallbackList.on_train_begin`: shows callbacks the list before any begins."""

    @functools.wraps(on_train_begin)
    def begin(self: Any, logs: Any = None) -> None:
        for callback in list(self.callbacks):
            if isinstance(callback, SeesCallbacks):
                callback.see_callbacks(self.callbacks)
        on_train_begin(self, logs)

    return begin
