"""The order in which the callbacks of one call run.

Keras calls callbacks in the order of one list, whatever they are called for. Under a strategy of
this package it is, from first to last:

    1. StalenessReport     Parameter servers: adds the staleness of an epoch to its logs, for all
                           others to read. Added here.
    2. the user's          In the order in which `fit` was given them, tfscale's among them, so that
                           a Watchdog or LocalUpdates that is first in the list stays first.
    3. History, ProgbarLogger
                           Added by Keras, unless the user has passed them.
    4. StopTogether        Several workers: stops all workers if one is asked to stop, and refuses
                           models that differ. It must run after every callback above. Added here.
    5. with `comes_last`   A callback that saves the final state, and must know whether training
                           stops: Checkpoint. Several of them stay in their order.

The list is sorted twice: when it is made (`CallbackList.set_model`), and when training begins
(`CallbackList.on_train_begin`), because a program may add to a list that it made. Then callbacks
that implement `SeesCallbacks` receive the final list, before `on_train_begin` of any callback.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol, runtime_checkable

import keras

from strategies.keras_support.asynchronous.reports import StalenessReport
from strategies.keras_support.patching.needs import Need, require
from strategies.keras_support.patching.ownership import is_asynchronous, is_multi_worker, is_owned
from strategies.keras_support.step.train_function import choose_execution_size
from strategies.keras_support.workers.collective_calls import StopTogether


@runtime_checkable
class SeesCallbacks(Protocol):
    """A callback that is shown the list it is in."""

    def see_callbacks(self, callbacks: list[Any]) -> None:
        """Called before any callback's `on_train_begin`, with the list in its final order."""


def in_order(callbacks: list[Any]) -> list[Any]:
    """Returns callbacks in the order in which they are called: see above.

    Args:
        callbacks: All callbacks of a call; those of one group keep their order.
    """
    return sorted(callbacks, key=_group)


def with_needed(callbacks: list[Any], strategy: Any) -> list[Any]:
    """Returns callbacks with the one that a strategy needs, unless it is there already.

    Args:
        callbacks: Of one call.
        strategy: The model's, built by this package.
    """
    if is_asynchronous(strategy):
        kind: type = StalenessReport
    elif is_multi_worker(strategy):
        kind = StopTogether
    else:
        return callbacks
    is_there = any(isinstance(callback, kind) for callback in callbacks)
    return callbacks if is_there else [*callbacks, kind()]


def require_callbacks(callbacks: list[Any], strategy: Any) -> None:
    """Refuses callbacks whose patched symbols changed, before a call begins.

    Raises:
        RuntimeError: If a callback needs a symbol that changed.
    """
    for kind, need in _NEEDS.items():
        if any(isinstance(callback, kind) for callback in callbacks):
            require(need, strategy)


_NEEDS = {
    keras.callbacks.BackupAndRestore: Need.BACKUP,
    keras.callbacks.CSVLogger: Need.CSV_LOGGER,
    keras.callbacks.ModelCheckpoint: Need.MODEL_CHECKPOINT,
    keras.callbacks.TensorBoard: Need.TENSORBOARD,
}


def _group(callback: Any) -> int:
    if isinstance(callback, StalenessReport):
        return 0
    if isinstance(callback, StopTogether):
        return 2
    return 3 if getattr(callback, "comes_last", False) else 1


def ordered_when_made(set_model: Any) -> Any:
    """Replaces `CallbackList.set_model`."""

    @functools.wraps(set_model)
    def set_model_in_order(self: Any, model: Any) -> Any:
        strategy = getattr(model, "distribute_strategy", None)
        if is_owned(strategy):
            require_callbacks(self.callbacks, strategy)
            self.callbacks = in_order(with_needed(self.callbacks, strategy))
            if is_multi_worker(strategy):
                # A request to stop must arrive before the next step, not during it.
                self._async_train = False
        return set_model(self, model)

    return set_model_in_order


def ordered_and_shown(on_train_begin: Any) -> Any:
    """Replaces `CallbackList.on_train_begin`."""

    @functools.wraps(on_train_begin)
    def begin(self: Any, logs: Any = None) -> None:
        if is_owned(getattr(self.model, "distribute_strategy", None)):
            self.callbacks = in_order(self.callbacks)
        for callback in list(self.callbacks):
            if isinstance(callback, SeesCallbacks):
                callback.see_callbacks(self.callbacks)
        on_train_begin(self, logs)
        if is_owned(getattr(self.model, "distribute_strategy", None)):  # hooks may be set by now
            choose_execution_size(self.model, self.params or {}, self.callbacks)

    return begin
