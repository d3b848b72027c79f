"""Finds out whether the first dimension of a tensor in a step is the examples.

A vector of losses may have a value for each example or for each feature, and only its history
distinguishes them: `[4]` of four examples looks like `[4]` of four features.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_REDUCTIONS = ("Mean", "Sum", "Max", "Min", "Prod", "All", "Any", "EuclideanNorm")
_NO_ROWS = ("ReadVariableOp", "Const")


def may_be_over_rows(tensor: Any, examples: tf.Tensor) -> bool:
    """Tells whether the rows of `tensor` may be examples; says the same on all replicas.

    Args:
        tensor: A tensor of a replica's step.
        examples: int32 scalar, the examples of this replica.
    """
    shape = tf.TensorShape(tensor.shape)
    if shape.rank == 0:
        return False
    if not tf.is_symbolic_tensor(tensor):  # replica batches differ in size: ask on all replicas
        return True
    return is_over_rows(tensor, examples)


def is_over_rows(tensor: Any, examples: tf.Tensor) -> bool:
    """Tells whether `tensor` has a row for each example, and not for each feature or weight.

    In a graph without static batch sizes, only sizes that depend on the batch are unknown. Where
    the number of examples is known, `tensor` must have as many rows. In a graph it must not come
    from a reduction over the first dimension either, which leaves features, nor from weights.

    Args:
        tensor: A tensor of a replica's step, of rank one or more.
        examples: int32 scalar, the examples of this replica.
    """
    shape, count = tf.TensorShape(tensor.shape), tf.get_static_value(examples)
    rows = shape[0] if shape.rank else None
    if rows is not None and (count is None or rows != max(int(count), 1)):
        return False
    return not tf.is_symbolic_tensor(tensor) or _comes_from_rows(tensor)


def _comes_from_rows(tensor: Any) -> bool:
    """Follows operations that keep the first dimension, back to rows of the batch."""
    waiting, seen, has_rows = [tensor], set(), False
    while waiting:
        current = waiting.pop()
        operation = current.op
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if operation.type in _REDUCTIONS and _is_over_first(operation):
            return False
        before = [each for each in operation.inputs if _keeps_rows(each, current)]
        waiting += before
        has_rows |= not before and operation.type not in _NO_ROWS
    return has_rows


def _is_over_first(reduction: Any) -> bool:
    given, axes = reduction.inputs
    known, rank = tf.get_static_value(axes), given.shape.rank
    if known is None:
        return False
    return 0 in {int(axis) % rank if rank else int(axis) for axis in known.ravel()}


def _keeps_rows(given: Any, result: Any) -> bool:
    """Tells whether an operation's input has the rows that its result has."""
    if not isinstance(given, tf.Tensor) or not given.shape.rank or not result.shape.rank:
        return False
    return bool(given.shape.rank >= result.shape.rank and given.shape[0] == result.shape[0])
