"""Gradients of a part of the examples, weighted so that they can be added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def weighted(gradient: tf.Tensor, weight: Any) -> tf.Tensor:
    """Returns a gradient times a weight, wide enough to add up: half precision becomes float32.

    Args:
        gradient: Dense.
        weight: Scalar tensor, or a float. Where a tensor is 0 the result is 0, also for NaN.
    """
    if gradient.dtype in (tf.float16, tf.bfloat16):
        gradient = tf.cast(gradient, tf.float32)
    if isinstance(weight, float):
        return gradient if weight == 1.0 else gradient * tf.constant(weight, gradient.dtype)
    return tf.math.multiply_no_nan(gradient, tf.cast(weight, gradient.dtype))


def concatenated(rows: Sequence[tf.IndexedSlices]) -> tf.IndexedSlices:
    """Returns the rows of several sparse gradients of one table, one after another.

    Args:
        rows: At least one.
    """
    if len(rows) == 1:
        return rows[0]
    wide = any(each.indices.dtype == tf.int64 for each in rows)  # as TensorFlow adds lookups up
    return tf.IndexedSlices(
        tf.concat([each.values for each in rows], axis=0),
        tf.concat([tf.cast(r.indices, tf.int64) if wide else r.indices for r in rows], axis=0),
        rows[0].dense_shape,
    )
