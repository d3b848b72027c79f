"""The user's own classes and functions in a model, found on the objects that use them.

Keras finds classes in configs by name, and knows only its own and registered names. A copy made in
the same process has the original at hand, so nothing needs to be registered.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Any

import keras

_OF_LOOPS = ("train_function", "test_function", "predict_function")
"""What `fit`, `evaluate` and `predict` keep in a model."""


def custom_objects_in(roots: Iterable[Any]) -> dict[str, Any]:
    """Returns the custom classes and functions that `roots` use, by the names that Keras uses.

    Keras finds classes in configs by name, and knows only its own and registered names. A copy made
    in the same process has access to the originals, so nothing needs to be registered.

    Args:
        roots: Layers, optimizers, metrics or structures of them. The attributes of objects with
            `get_config` are searched too.

    Raises:
        ValueError: If two objects have the same name.

    Example:
        >>> def twice(x): return 2 * x
        >>> list(custom_objects_in([keras.layers.Dense(1, activation=twice)]))
        ['twice']
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        elif isinstance(value, types.FunctionType):
            _add(found, value)
        elif hasattr(value, "get_config") and not isinstance(value, type):
            _add(found, type(value))
            waiting.extend(_attributes(value))
    return found


def _attributes(value: Any) -> Iterator[Any]:
    """Yields the attributes of an object, without functions that are made for each instance."""
    for name, part in getattr(value, "__dict__", {}).items():
        is_made = hasattr(type(value), name) or name in _OF_LOOPS
        if not (isinstance(part, types.FunctionType) and is_made):
            yield part


def _add(found: dict[str, Any], custom: Any) -> None:
    module = custom.__module__ or ""
    if module == "keras" or module.startswith("keras.") or custom.__name__ == "<lambda>":
        return  # Keras finds its own classes, and never finds a lambda
    name = keras.saving.get_registered_name(custom)
    if found.setdefault(name, custom) is not custom:
        raise ValueError(
            "`model` must not use two classes or functions of the same name. Received: "
            f"{found[name]!r} and {custom!r}, both named {name!r}. Rename one, or pass a function "
            "that builds and compiles the model."
        )
