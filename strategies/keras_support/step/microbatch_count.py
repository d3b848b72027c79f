"""In how many microbatches a model computes a replica batch: for one `fit`, or for all of them."""

from __future__ import annotations

import weakref
from typing import Any

from strategies.keras_support.input.current_fit import running_fit_of

_OF_EVERY_FIT: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def microbatches_of(model: Any) -> int:
    """Returns the microbatches of a training step of `model` as it would be traced now.

    Args:
        model: A Keras model under a strategy of this package.
    """
    running = running_fit_of(model.distribute_strategy)
    if running is not None and running.microbatches is not None:
        trained, count = running.microbatches
        if trained is model:
            return int(count)
    return _OF_EVERY_FIT.get(model, 1)


def train_in_microbatches(model: Any, count: int) -> None:
    """Sets the microbatches of every later `fit` of `model`.

    Args:
        model: A Keras model under a strategy of this package.
        count: Positive.
    """
    _OF_EVERY_FIT[model] = count


def fit_in_microbatches(model: Any, count: int) -> None:
    """Sets the microbatches of the `fit` of `model` that is running; without one does nothing.

    Args:
        model: A Keras model under a strategy of this package.
        count: Positive.
    """
    running = running_fit_of(model.distribute_strategy)
    if running is not None:
        running.microbatches = (model, count)
