"""The input and the first epoch of the `fit` that is beginning: Keras tells no callback of them."""

from __future__ import annotations

import inspect
import weakref
from typing import Any

_LATEST: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()
_INITIAL_EPOCHS: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def note_input(strategy: Any, iterator: Any, arguments: dict[str, Any]) -> None:
    """Remembers an epoch iterator if `fit` made it.

    Args:
        strategy: The model's.
        iterator: The epoch iterator.
        arguments: What it was made of: `fit` passes class weights or None, nobody else does.
    """
    if "class_weight" in arguments:
        _LATEST[strategy] = weakref.ref(iterator)


def latest_input(strategy: Any) -> Any:
    """Returns the epoch iterator of the latest `fit` under a strategy.

    Raises:
        RuntimeError: If no `fit` is under way.
    """
    iterator = _LATEST[strategy]() if strategy in _LATEST else None
    if iterator is None:
        raise RuntimeError(
            "`fit` must be under way under the strategy. Received: none. Resume in a callback."
        )
    return iterator


def note_initial_epoch(
    strategy: Any, fit: Any, arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """Remembers which epoch a `fit` is told to begin with.

    Args:
        strategy: The model's.
        fit: The method.
        arguments: What it was called with, without the model.
        named: And by name.
    """
    place = list(inspect.signature(fit).parameters).index("initial_epoch") - 1
    told = arguments[place] if place < len(arguments) else named.get("initial_epoch", 0)
    _INITIAL_EPOCHS[strategy] = int(told)  # NumPy's is no JSON


def latest_initial_epoch(strategy: Any) -> int:
    """Returns `initial_epoch` of the latest `fit` under a strategy; 0 where it had none."""
    return _INITIAL_EPOCHS.get(strategy, 0)
