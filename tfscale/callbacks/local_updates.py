"""Local SGD: replicas train independently and are averaged every few steps."""

from __future__ import annotations

from typing import Any

import keras

from strategies.extension import LocalTraining, trains_on_one_replica, whole_number


class LocalUpdates(keras.callbacks.Callback):
    """Lets replicas train independently, and averages their parameters every `every` steps.

    Communication is reduced to one all-reduce per `every` steps. Each replica updates its own copy
    of the model from the gradient of its replica batch. Then all copies are set to the mean of the
    trainable variables, of the optimizer's slots (momentum, moments), of BatchNorm's moving
    statistics and of what other layers assign from their batch, such as the range of a
    `FakeQuantize`, weighted by the examples of each replica in the round. `every=1` with SGD, with
    or without momentum or decoupled weight decay, equals synchronous training. With clipping or
    Adam, which are not linear in the gradient, it is close to it. On a single replica this callback
    has no effect.

    The end of an epoch ends a round early, so validation, checkpoints and the trained model always
    use averaged parameters. Within an epoch, parameters are averaged only after multiples of
    `every` steps; in between, a saved model would be that of the first replica. Put this callback
    first, so that it averages before other callbacks read the model, also if an epoch is stopped in
    the middle. If `fit` fails within a round, call `average` to make the copies equal.

    The loss that `fit` shows is the mean of the replicas' losses.

    Args:
        every: Steps of a round. Positive, and a multiple of the model's `steps_per_execution`. It
            is fastest if both are equal.

    Raises:
        ValueError: If `every` is out of range. When training begins, if it is not a multiple of
            `steps_per_execution`, or the model uses loss scaling (mixed_float16) or a
            BatchNormalization with `synchronized=True`, or has several replicas under another
            strategy than tfscale's.

    Example:
        >>> strategy = strategies.mirrored_strategy(num_replicas=2)
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile(keras.optimizers.SGD(0.1), "mse", steps_per_execution=4)
        >>> history = model.fit(rows, targets, callbacks=[LocalUpdates(every=4)], verbose=0)

    Source: Stich 2019, "Local SGD converges fast and communicates little", arXiv:1805.09767; for
    momentum Yu, Jin, Yang 2019, arXiv:1905.03817.
    """

    needs_every_worker = True  # its methods exchange messages between workers

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = whole_number("every", every, cure="Pass 1 to average after every step.")
        self._training: LocalTraining | None = None

    def average(self) -> None:
        """Averages the parameters of all replicas, as `fit` does at the end of a round.

        All workers must call it together.
        """
        if self._training is not None:
            self._training.average()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins local training, or raises an error if the model does not support it."""
        self._training = None
        if not trains_on_one_replica(self.model):
            self._training = LocalTraining(self.model, self.every)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins a round."""
        if self._training is not None:
            self._training.begin_epoch((self.params or {}).get("steps"))

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Prepares the steps of an execution."""
        if self._training is not None:
            self._training.expect()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Averages an unfinished round."""
        self.average()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Averages an unfinished round."""
        self.average()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends local training. A later `fit` without this callback is synchronous."""
        if self._training is not None:
            self._training.end()
