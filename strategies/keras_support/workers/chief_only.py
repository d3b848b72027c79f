"""Lets only the chief write files, print and warn.

Every worker runs the same loop. With one path for all, Keras's callbacks would write the same file
at the same time, and HDF5 answers with `BlockingIOError` (C8, C9). Variables are equal on all
workers, so the chief writes them and all workers restore them. Progress bars, the lines of
callbacks and warnings would appear once per worker. Errors are raised on all workers.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tensorflow as tf
from keras.src.backend.common import global_state

from strategies.cluster.chief import is_chief
from strategies.keras_support.asynchronous.executions import wait_until_idle
from strategies.keras_support.patching.ownership import is_asynchronous, is_multi_worker, is_owned
from strategies.keras_support.sharding.whole_values import all_variables, readable_on_chief


def _is_silent(callback: Any) -> bool:
    strategy = getattr(callback.model, "distribute_strategy", None)
    return is_owned(strategy) and is_multi_worker(strategy) and not is_chief(strategy)


def on_chief_only(method: Any) -> Any:
    """Replaces a callback's method that writes: only the chief runs it."""

    @functools.wraps(method)
    def on_chief(self: Any, *args: Any, **kwargs: Any) -> Any:
        return None if _is_silent(self) else method(self, *args, **kwargs)

    return on_chief


def on_idle_chief_only(save_model: Any) -> Any:
    """Lets the chief write all variables, and no worker change one while it writes others."""
    chief_only = on_chief_only(save_model)

    @functools.wraps(save_model)
    def save(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_asynchronous(self.model.distribute_strategy):
            wait_until_idle(self.model.distribute_strategy)
        with readable_on_chief(all_variables(self.model)):
            return chief_only(self, *args, **kwargs)

    return save


def whole_epochs_only(on_train_begin: Any) -> Any:
    """Refuses backups within an epoch: Keras restores them at its beginning (S19)."""

    @functools.wraps(on_train_begin)
    def begin(self: Any, logs: Any = None) -> Any:
        if is_owned(self.model.distribute_strategy) and self.save_freq != "epoch":
            raise ValueError(
                "`save_freq` of BackupAndRestore must be 'epoch': Keras resumes a backup from the "
                "middle of an epoch at the epoch's first batch, and trains on its batches twice. "
                "Received: "
                f"save_freq={self.save_freq!r}. Use BackupAndRestore(..., save_freq='epoch')."
            )
        return on_train_begin(self, logs)

    return begin


def own_folder_unless_chief(set_model: Any) -> Any:
    """TensorBoard writes in many places; on other workers it writes to a temporary folder."""

    @functools.wraps(set_model)
    def set_model_elsewhere(self: Any, model: Any) -> Any:
        self._model = model
        if _is_silent(self):
            self._tfscale_folder = tempfile.TemporaryDirectory(prefix="tfscale-tensorboard-")
            self.log_dir = self._tfscale_folder.name
        return set_model(self, model)

    return set_model_elsewhere


def found_outside_of_scope(get_attr_skipset: Any) -> Any:
    """Lets the chief save inside the scope, where making a variable needs all workers.

    To know which attributes of an optimizer to write, Keras makes one, with a counter. Scopes are
    thread-local, like Keras's record of what it found.
    """

    @functools.wraps(get_attr_skipset)
    def skipset(obj_type: str) -> Any:
        strategy = tf.distribute.get_strategy()
        if obj_type != "Optimizer" or not is_owned(strategy) or not is_multi_worker(strategy):
            return get_attr_skipset(obj_type)
        note = f"saving_attr_skiplist_{obj_type}"
        known = global_state.get_global_attribute(note)
        if known is None:
            with ThreadPoolExecutor(1) as outside:
                known = outside.submit(get_attr_skipset, obj_type).result()
            global_state.set_global_attribute(note, known)
        return known

    return skipset


class _Calls(threading.local):
    """The running calls of fit, evaluate and predict in this thread that must not print."""

    quiet = 0


_CALLS = _Calls()


@contextlib.contextmanager
def quiet_unless_chief(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Surrounds a call of fit, evaluate or predict; lets Keras print on the chief only.

    Args:
        strategy: A strategy of several workers.
    """
    if is_chief(strategy):
        yield
        return
    _CALLS.quiet += 1
    try:
        with warnings.catch_warnings():
            # By the module that warns: warnings of the user's code are shown.
            warnings.filterwarnings("ignore", module=r"(keras|strategies)\b")
            yield
    finally:
        _CALLS.quiet -= 1


def printed_on_chief(print_msg: Any) -> Any:
    """Replaces `print_msg`: prints nothing while this worker is to be quiet."""

    @functools.wraps(print_msg)
    def print_on_chief(message: Any, line_break: bool = True) -> None:
        if not _CALLS.quiet:
            print_msg(message, line_break=line_break)

    return print_on_chief
