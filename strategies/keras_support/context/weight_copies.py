"""Copies of weights on the device that reads them, where the weights themselves are elsewhere.

A layer in two stages of a pipeline has its weights on the device of one. On the other it reads a
copy, made once a step, instead of the variable: what a layer reads is sent each time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf


class _Reading(threading.local):
    """What this thread's replica reads instead of variables of Keras, by their ids."""

    copies: Mapping[int, tf.Tensor] | None = None


_READING = _Reading()


@contextlib.contextmanager
def reading_copies(copies: Mapping[int, tf.Tensor]) -> Iterator[None]:
    """Lets this replica read tensors in place of variables of Keras.

    Args:
        copies: By the id of a variable, the tensor, of the variable's dtype and shape.
    """
    outer, _READING.copies = _READING.copies, copies
    try:
        yield
    finally:
        _READING.copies = outer


def copy_of(variable: Any) -> tf.Tensor | None:
    """Returns what this replica reads instead of a variable of Keras, or None for the variable."""
    return None if _READING.copies is None else _READING.copies.get(id(variable))
