"""Where a resumed `fit` begins: its epoch and its first step.

Keras does not pass the input to callbacks, and numbers steps from 0 whatever was consumed before.
Here a callback finds the input of the `fit` that is beginning, and skips what was consumed.
"""

from __future__ import annotations

from typing import Any, Protocol

from strategies.keras_support.input.current_fit import current_fit


class ResumableInput(Protocol):
    """The methods of an epoch iterator by which a later run resumes in its epoch."""

    def steps_in_epoch(self) -> int | None:
        """Returns the steps of an epoch, or None where the input does not know."""

    def refuse_unseekable(self) -> None:
        """Raises a ValueError if the same batches cannot be read again."""

    def order(self) -> str:
        """Returns what the order of the batches follows from."""

    def replica_spec(self) -> Any:
        """Returns the structure of `tf.TypeSpec` of one replica's batch."""

    def begin_at(self, step: int, batches: int) -> None:
        """Skips `step` steps of the first epoch, `batches` in all."""


class FitInput:
    """The input of the `fit` that is beginning, as a callback's `on_train_begin` finds it.

    Args:
        model: A model under a strategy of this package.

    Attributes:
        steps_per_epoch: Global batches an epoch, or None where that is not known.
        initial_epoch: The argument of `fit`, from 0.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        running = current_fit(model.distribute_strategy)
        self._iterator: ResumableInput = running.iterator
        self.steps_per_epoch = self._iterator.steps_in_epoch()
        self.initial_epoch = running.initial_epoch

    def refuse_unseekable(self) -> None:
        """Checks that the input can be read again from its beginning, in the same batches.

        Raises:
            ValueError: If it cannot: a generator, a `PyDataset`, or an unknown number of batches.
        """
        self._iterator.refuse_unseekable()

    def order(self) -> str:
        """Returns what the order of the batches follows from, to compare with an earlier run's.

        Raises:
            ValueError: If it is not reproducible: a shuffle without a seed.
        """
        return self._iterator.order()

    def replica_spec(self) -> Any:
        """Returns the structure of `tf.TypeSpec` of one replica's batch."""
        return self._iterator.replica_spec()

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
    """Forgets the epoch, so that the next `fit` begins with its `initial_epoch`."""
    model._initial_epoch = None
