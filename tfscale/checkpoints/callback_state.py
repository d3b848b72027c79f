"""The state of callbacks in a checkpoint.

A callback returns its state as JSON values from `state()`, and restores it in `restore(state)`. One
that also has arrays, such as the masks of Prune, returns them by name from `state_arrays()`; they
become tensors of the checkpoint, and `restore_arrays(arrays)` gets them after `restore`.
Keras's EarlyStopping, ReduceLROnPlateau and ModelCheckpoint have neither method; their state is a
few attributes. The weights that EarlyStopping(restore_best_weights=True) keeps are arrays, and
become tensors of the checkpoint.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfscale.checkpoints import schema
from tfscale.checkpoints.directory import Content
from tfscale.checkpoints.manifest import BrokenCheckpoint
from tfscale.checkpoints.schema import Malformed
from tfscale.checkpoints.tensors import Values

_PLAIN: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "cooldown_counter", "best"),
    keras.callbacks.ModelCheckpoint: ("best",),
}
BEST_WEIGHTS = "best_weights"
CALLBACKS = "callbacks/"


def callback_keys(callbacks: list[Any]) -> dict[str, Any]:
    """Returns the callbacks that have a state, by key: the class name, numbered if repeated."""
    times: Counter[str] = Counter()
    found = {}
    for callback in callbacks:
        tells = hasattr(callback, "state") and hasattr(callback, "restore")
        if tells or _plain(callback):
            name = type(callback).__name__
            found[f"{name}_{times[name]}" if times[name] else name] = callback
            times[name] += 1
    return found


def callback_states(callbacks: list[Any]) -> tuple[dict[str, Any], dict[str, Values]]:
    """Returns the states as JSON values by callback key, and their arrays by tensor key.

    Args:
        callbacks: All callbacks of a `fit`.
    """
    states, tensors = {}, {}
    for key, callback in callback_keys(callbacks).items():
        if not _plain(callback):
            states[key] = callback.state()
            arrays = callback.state_arrays() if _has_arrays(callback) else {}
            tensors.update({f"{CALLBACKS}{key}/{n}": Values(array) for n, array in arrays.items()})
            continue
        states[key] = {name: _plain_number(getattr(callback, name)) for name in _plain(callback)}
        for i, array in enumerate(getattr(callback, BEST_WEIGHTS, None) or ()):
            tensors[f"{CALLBACKS}{key}/{BEST_WEIGHTS}/{i}"] = Values(np.array(array))
    return states, tensors


def check_callback_states(callbacks: list[Any], content: Content) -> None:
    """Checks the state of Keras's callbacks. Callbacks with `restore` check their own state.

    Args:
        callbacks: All callbacks of a `fit`.
        content: The content of a checkpoint.

    Raises:
        BrokenCheckpoint: If names or values differ from those that `callback_states` returns.
    """
    try:
        for key, callback in callback_keys(callbacks).items():
            if _plain(callback) and key in content.callbacks:
                _plain_state(callback, key, content.callbacks[key])
                _best_weights(callback, key, content.tensors)
    except Malformed as error:
        raise BrokenCheckpoint(f"the state of a callback is malformed: {error}") from error


def restore_callbacks(
    callbacks: list[Any], states: dict[str, Any], tensors: Mapping[str, Values]
) -> list[str]:
    """Restores the states of callbacks. For Keras's callbacks sets only attributes in `_PLAIN`.

    Args:
        callbacks: All callbacks of a `fit` whose training has begun.
        states: JSON values by callback key.
        tensors: Arrays by tensor key. Those of other parts are ignored.

    Returns:
        A sentence for each callback without a stored state, and for each state that is not used.

    Raises:
        ValueError: If a state is malformed.
    """
    found = callback_keys(callbacks)
    for key, callback in found.items():
        if key not in states:
            continue
        if not _plain(callback):
            callback.restore(states[key])
            if _has_arrays(callback):
                kept_arrays = _arrays(f"{CALLBACKS}{key}/", tensors)
                callback.restore_arrays({n: values.array for n, values in kept_arrays.items()})
            continue
        for name, value in _plain_state(callback, key, states[key]).items():
            setattr(callback, name, value)
        if kept := _best_weights(callback, key, tensors):
            shapes = [array.shape for array in kept]
            wanted = [tuple(variable.shape) for variable in callback.model.weights]
            if shapes != wanted:
                raise schema.malformed(f"{key}.{BEST_WEIGHTS}", f"of the shapes {wanted}", shapes)
            setattr(callback, BEST_WEIGHTS, kept)
    new, left = sorted(found.keys() - states.keys()), sorted(states.keys() - found.keys())
    said = [f"{key} starts from its initial state, because the checkpoint has none" for key in new]
    return said + [
        f"the state of {reprlib.repr(key)} is not used, because there is no such callback"
        for key in left
    ]


def _plain_state(callback: Any, key: str, state: Any) -> dict[str, Any]:
    where = f"callbacks.{key}"
    fields = schema.record(state, where, _plain(callback))
    for name, value in fields.items():
        if name != "best":
            schema.integer(value, f"{where}.{name}")
        elif value is not None:
            schema.number(value, f"{where}.{name}")
    return fields


def _best_weights(callback: Any, key: str, tensors: Mapping[str, Values]) -> list[Any]:
    """Returns the weights that an EarlyStopping has kept, or an empty list."""
    prefix = f"{CALLBACKS}{key}/{BEST_WEIGHTS}/"
    kept = _arrays(prefix, tensors)
    if not kept:
        return []
    if not isinstance(callback, keras.callbacks.EarlyStopping):
        raise schema.malformed(prefix, "of an EarlyStopping", key)
    numbers = [str(i) for i in range(len(kept))]
    if kept.keys() != set(numbers):
        raise schema.malformed(prefix, "numbered from 0", sorted(kept))
    return [kept[i].array for i in numbers]


def _arrays(prefix: str, tensors: Mapping[str, Values]) -> dict[str, Values]:
    """Returns the tensors whose keys begin with a prefix, by what follows it."""
    return {
        name.removeprefix(prefix): values
        for name, values in tensors.items()
        if name.startswith(prefix)
    }


def _has_arrays(callback: Any) -> bool:
    return hasattr(callback, "state_arrays") and hasattr(callback, "restore_arrays")


def _plain(callback: Any) -> tuple[str, ...]:
    return next((names for kind, names in _PLAIN.items() if isinstance(callback, kind)), ())


def _plain_number(value: Any) -> Any:
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value
