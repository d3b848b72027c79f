"""Replicas that step alone and meet now and then: local SGD."""

from __future__ import annotations

from typing import Any

import keras

from strategies.extension import LocalTraining, trains_alone, whole_number


class LocalUpdates(keras.callbacks.Callback):
    """Lets each replica step alone, and averages the replicas' parameters every so many steps.

    Communication falls to one all-reduce in `every` steps. Each replica updates its own copy of the
    model from the gradient of its own share of each batch; then all take the mean of the trainable
    variables, of the optimizer's slots (momentum, moments) and of BatchNorm's moving statistics,
    weighed by the examples of each replica in the round. `every=1` with SGD, with or without
    momentum or decoupled weight decay, is synchronous training; with clipping or Adam, which are
    not linear in the gradient, it is close to it. On one replica this callback changes nothing.

    An epoch ends a round early, so validation, checkpoints and the trained model only ever see
    means. In mid-epoch they do after a multiple of `every` steps; in between, a saved model would
    be the first replica's own. Put it first among the callbacks, so that it has averaged before
    another one looks, also where an epoch was stopped in the middle. If `fit` fails in mid-round,
    `average` makes the copies equal.

    The loss that `fit` shows is the mean of the replicas' own losses.

    Args:
        every: Steps of a round. Positive. A multiple of the model's `steps_per_execution`; the same
            number of both is fastest.

    Raises:
        ValueError: If `every` is out of range; when training begins, if it is not a multiple of
            `steps_per_execution`, or the model scales its loss (mixed_float16), has a
            BatchNormalization with `synchronized=True`, or trains on several replicas of a strategy
            that is not ours.

    Example:
        >>> strategy = strategies.mirrored_strategy(num_replicas=2)
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile(keras.optimizers.SGD(0.1), "mse", steps_per_execution=4)
        >>> history = model.fit(rows, targets, callbacks=[LocalUpdates(every=4)], verbose=0)

    Source: Stich 2019, "Local SGD converges fast and communicates little", arXiv:1805.09767; for
    momentum Yu, Jin, Yang 2019, arXiv:1905.03817.
    """

    needs_every_worker = True  # workers meet in it

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = whole_number("every", every, cure="Count steps; 1 averages after each.")
        self._training: LocalTraining | None = None

    def average(self) -> None:
        """Gives all replicas the mean of what they hold now; `fit` does so at the end of a round.

        All workers call it together.
        """
        if self._training is not None:
            self._training.average()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins to train locally, or refuses a model that cannot be."""
        self._training = None
        if not trains_alone(self.model):
            self._training = LocalTraining(self.model, self.every)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins a round."""
        if self._training is not None:
            self._training.begin_epoch((self.params or {}).get("steps"))

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Announces the steps of an execution."""
        if self._training is not None:
            self._training.expect()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Averages what an epoch that was cut short has left."""
        self.average()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Averages what an epoch that was cut short has left."""
        self.average()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends training locally; a `fit` without this callback is synchronous again."""
        if self._training is not None:
            self._training.end()
