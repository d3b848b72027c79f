"""The input of the `fit` that is beginning, which Keras hands to no callback."""

from __future__ import annotations

import weakref
from typing import Any

_LATEST: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()


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
