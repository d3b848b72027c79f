"""The state of callbacks: of those that tell it, and of three of Keras's.

A callback tells it with `state()`, JSON values, and takes it back with `restore(state)`. Keras's
EarlyStopping, ReduceLROnPlateau and ModelCheckpoint have neither; theirs is a few plain attributes.
The weights that EarlyStopping(restore_best_weights=True) keeps are arrays: they become tensors of
the checkpoint.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np

from tfscale.checkpoints.tensors import Values

_PLAIN: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "cooldown_counter", "best"),
    keras.callbacks.ModelCheckpoint: ("best",),
}
BEST_WEIGHTS = "best_weights"
CALLBACKS = "callbacks/"


def callback_keys(callbacks: list[Any]) -> dict[str, Any]:
    """Returns the callbacks that have a state, by a key: their class and, of several, a number."""
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
    """Returns the states as JSON values by the callbacks' keys, and their arrays by tensor keys.

    Args:
        callbacks: All callbacks of a `fit`.
    """
    states, tensors = {}, {}
    for key, callback in callback_keys(callbacks).items():
        if not _plain(callback):
            states[key] = callback.state()
            continue
        states[key] = {name: _plain_number(getattr(callback, name)) for name in _plain(callback)}
        for i, array in enumerate(getattr(callback, BEST_WEIGHTS, None) or ()):
            tensors[f"{CALLBACKS}{key}/{BEST_WEIGHTS}/{i}"] = Values(np.array(array))
    return states, tensors


def restore_callbacks(
    callbacks: list[Any], states: dict[str, Any], tensors: dict[str, Values]
) -> list[str]:
    """Gives callbacks their states back.

    Args:
        callbacks: All callbacks of a `fit`, whose training has begun.
        states: JSON values by the callbacks' keys.
        tensors: Arrays by their keys; others than callbacks' are passed over.

    Returns:
        A sentence for each callback that begins anew, and for each state that nobody wants.
    """
    found = callback_keys(callbacks)
    for key in states.keys() & found.keys():
        callback = found[key]
        if not _plain(callback):
            callback.restore(states[key])
            continue
        for name, value in states[key].items():
            setattr(callback, name, value)
        prefix = f"{CALLBACKS}{key}/{BEST_WEIGHTS}/"
        kept = {
            name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)
        }
        if kept:
            setattr(callback, BEST_WEIGHTS, [kept[str(i)].array for i in range(len(kept))])
    new, left = sorted(found.keys() - states.keys()), sorted(states.keys() - found.keys())
    said = [f"{key} begins anew: the checkpoint has no state of it" for key in new]
    return said + [f"the state of {key} is left: no such callback" for key in left]


def _plain(callback: Any) -> tuple[str, ...]:
    return next((names for kind, names in _PLAIN.items() if isinstance(callback, kind)), ())


def _plain_number(value: Any) -> Any:
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value
