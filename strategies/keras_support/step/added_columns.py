"""`keras.ops.add` of a column, [rows, 1], to a matrix, [rows, width].

On TensorFlow, Keras before 3.16 takes the second of two summands for a bias along the last axis or
axis 1, if all its axes but one have size 1 and the sizes agree. So a number for each row becomes
one for each column if there are as many rows as columns. On a replica that depends on how many
replicas share the global batch: S35 in `defects`. It concerns `layers.Add`, and `+` in a Functional
model, too. A [width, 1] that is added to [batch, width, width] is left: it is wrong on any number
of replicas, and when the trained model predicts without a strategy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from strategies.keras_support.patching.ownership import is_owned


def added_by_row(add: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Replaces `keras.ops.add`: a number for each row is the first summand."""

    @functools.wraps(add)
    def adding(x1: Any, x2: Any) -> Any:
        return add(*_column_first(x1, x2))

    return adding


def called_by_row(call: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Replaces the `call` of the operation that `keras.ops.add` is in a Functional model."""

    @functools.wraps(call)
    def calling(self: Any, x1: Any, x2: Any) -> Any:
        return call(self, *_column_first(x1, x2))

    return calling


def _column_first(x1: Any, x2: Any) -> tuple[Any, Any]:
    """Returns two summands so that Keras, which looks at the second, takes none for a bias."""
    is_ours = is_column_beside(x1, x2) and is_owned(tf.distribute.get_strategy())
    return (x2, x1) if is_ours else (x1, x2)


def is_column_beside(matrix: Any, column: Any) -> bool:
    """Tells whether a summand has one number for each row of another, [rows, 1, ...].

    Example:
        >>> is_column_beside(np.ones([4, 4]), np.ones([4, 1]))
        True
        >>> is_column_beside(np.ones([4, 4]), np.ones([1, 4]))
        False
    """
    shape, beside = _shape(column), _shape(matrix)
    return (
        len(shape) == len(beside) > 1
        and shape[0] == beside[0]
        and shape[0] not in (None, 1)
        and all(size == 1 for size in shape[1:])
    )


def _shape(value: Any) -> tuple[int | None, ...]:
    """Returns the static shape of a tensor or array; () for a number or an unknown rank."""
    shape = getattr(value, "shape", ())
    return () if isinstance(shape, tf.TensorShape) and shape.rank is None else tuple(shape)
