"""The quiet patch: of several workers, the chief prints and warns.

Every worker runs the same loop, so each would print Keras's progress bar, the lines of its
callbacks and its warnings. Errors are raised on all.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from strategies.cluster.chief import is_chief


class _Calls(threading.local):
    """Calls of fit, evaluate and predict that this thread is in and that print nothing."""

    quiet = 0


_CALLS = _Calls()


@contextlib.contextmanager
def quiet_unless_chief(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Stands around a call of fit, evaluate or predict; what Keras has to say, the chief says.

    Args:
        strategy: A strategy of several workers.
    """
    if is_chief(strategy):
        yield
        return
    _CALLS.quiet += 1
    try:
        with warnings.catch_warnings():
            # By the module that warns: those of the user's own code stay.
            warnings.filterwarnings("ignore", module=r"(keras|strategies)\b")
            yield
    finally:
        _CALLS.quiet -= 1


def printed_on_chief(print_msg: Any) -> Any:
    """Stands in for `print_msg`: prints nothing while this worker is to be quiet."""

    @functools.wraps(print_msg)
    def print_on_chief(message: Any, line_break: bool = True) -> None:
        if not _CALLS.quiet:
            print_msg(message, line_break=line_break)

    return print_on_chief
