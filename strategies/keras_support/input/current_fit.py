"""The `fit` that is running: its strategy, its first epoch and the iterator over its training data.

Keras does not pass them to callbacks, and uses one class for the iterators over training and
validation data. So the wrapper of `fit` sets a context variable here. The first iterator that is
made inside `fit` is the one over the training data.

    with running_fit(strategy, initial_epoch):      # `called_together`, around Keras's fit
        ...
        if fit_awaits_input(strategy):              # the class that stands in for Keras's iterator
            note_input(strategy, iterator)
        ...
        running = current_fit(strategy)             # a callback that resumes: see `resume`
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass
class RunningFit:
    """A call of `fit` under a strategy of this package.

    Attributes:
        strategy: The model's.
        initial_epoch: The argument of `fit`, from 0.
        iterator: The epoch iterator over its training data, once Keras has made it.
        microbatches: A model and its microbatches a replica batch in this `fit`, or None; see
            `step.microbatch_count`.
    """

    strategy: Any
    initial_epoch: int
    iterator: Any = None
    microbatches: tuple[Any, int] | None = None


_RUNNING: ContextVar[RunningFit | None] = ContextVar("tfscale_running_fit", default=None)


@contextlib.contextmanager
def running_fit(strategy: Any, initial_epoch: int) -> Iterator[None]:
    """Surrounds a call of Keras's `fit`.

    Args:
        strategy: The model's.
        initial_epoch: The epoch that `fit` begins with, from 0.
    """
    outer = _RUNNING.set(RunningFit(strategy, initial_epoch))
    try:
        yield
    finally:
        _RUNNING.reset(outer)


def fit_awaits_input(strategy: Any) -> bool:
    """Tells whether the next iterator under `strategy` is that of a `fit`'s training data.

    False in `evaluate` and `predict`, and in a `fit` for its validation data.
    """
    running = running_fit_of(strategy)
    return running is not None and running.iterator is None


def note_input(strategy: Any, iterator: Any) -> None:
    """Remembers the iterator over the training data; ignores any other iterator.

    Args:
        strategy: The model's.
        iterator: An epoch iterator that is being made.
    """
    running = _RUNNING.get()
    if running is not None and fit_awaits_input(strategy):
        running.iterator = iterator


def running_fit_of(strategy: Any) -> RunningFit | None:
    """Returns the `fit` that is running under a strategy, or None."""
    running = _RUNNING.get()
    return running if running is not None and running.strategy is strategy else None


def current_fit(strategy: Any) -> RunningFit:
    """Returns the `fit` that is running under a strategy, with its iterator.

    Raises:
        RuntimeError: If there is none.
    """
    running = running_fit_of(strategy)
    if running is None or running.iterator is None:
        raise RuntimeError(
            "`fit` must be running under the strategy. Received: no running `fit`. Resume in a "
            "callback."
        )
    return running


def argument_of(
    call: Callable[..., Any], name: str, arguments: tuple[Any, ...], named: dict[str, Any]
) -> Any:
    """Returns the value of an argument in a call of a model's method, given or by default.

    Args:
        call: The method, `fit` for example.
        name: The argument.
        arguments: What the method was called with, without the model.
        named: And by name.
    """
    parameters = inspect.signature(call).parameters
    place = list(parameters).index(name) - 1
    return arguments[place] if place < len(arguments) else named.get(name, parameters[name].default)
