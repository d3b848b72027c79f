"""Microbatches: each replica computes its part of a batch in pieces, for one update."""

from __future__ import annotations

from typing import Any

import keras

from strategies.extension import (
    fit_in_microbatches,
    refuse_model_outside,
    remake_train_function,
    whole_number,
)


class Microbatches(keras.callbacks.Callback):
    """Computes each training batch in `count` parts one after another, with one update for all.

    Activations need about 1/`count` of the memory, for one more copy of the gradients. Every
    replica divides its replica batch into contiguous parts whose sizes differ by at most one
    example. Gradients are added up on the replica, reduced once, and applied once. Loss, gradients,
    metrics and weights are those of the whole batch, also with masks, sample weights, regularizers,
    losses of `add_loss` and an uneven last batch.

    What a layer does in `call` it does once a microbatch:

    * BatchNormalization normalizes with the statistics of a microbatch, and its moving statistics
      move `count` times a batch. With `synchronized=True` a microbatch's statistics are those of
      all replicas' microbatches that are computed at that time.
    * Dropout draws separately for each microbatch, reproducibly for a seed.
    * A layer that counts its calls counts microbatches.

    A training step is `count` times as long to trace. Validation is not divided.

    Args:
        count: Microbatches of a replica batch. Positive; 1 changes nothing. If a replica batch has
            fewer examples than `count`, each example is a microbatch.

    Raises:
        ValueError: If `count` is out of range. When training begins, if the model has its own
            `train_step`, trains under parameter servers or outside of a tfscale strategy, or
            several replicas use LocalUpdates. When the first step is traced, if a loss uses
            `tfscale.sum_over_replicas` or a function like it.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        >>> history = model.fit(rows, targets, callbacks=[Microbatches(4)], verbose=0)

    Source: Huang et al. 2019, "GPipe", arXiv:1811.06965, section 2.2.
    """

    needs_every_worker = True

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = whole_number("count", count, cure="Pass 1 to compute the batch at once.")

    def set_model(self, model: Any) -> None:
        """Notes the model, whose train function is made next."""
        super().set_model(model)
        fit_in_microbatches(model, self.count)

    def see_callbacks(self, callbacks: list[Any]) -> None:
        """Notes the model before any callback prepares the training."""
        fit_in_microbatches(self.model, self.count)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuses a model of another strategy; makes the train function if it has other parts."""
        refuse_model_outside(self.model, "Microbatches")
        remake_train_function(self.model)
