"""Rows of all workers in one place, in the order of the replicas."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_CARRIED = (tf.float32, tf.float16, tf.float64, tf.int32, tf.int64)
"""What TensorFlow's collectives gather."""


def gathered(strategy: tf.distribute.Strategy, rows: Any) -> tf.Tensor:
    """Returns the rows of all replicas of all workers, one replica's after another's.

    Args:
        strategy: A strategy of several workers.
        rows: Each replica's rows; as many as it has, of one shape behind the first dimension.

    Raises:
        ValueError: If the rows are of a dtype that cannot travel, such as string.
    """
    dtype = strategy.experimental_local_results(rows)[0].dtype
    if dtype in _CARRIED:
        return strategy.gather(rows, axis=0)
    carrier = _carrier(dtype)
    cast = strategy.run(lambda part: tf.cast(part, carrier), args=(rows,))
    return tf.cast(strategy.gather(cast, axis=0), dtype)


def _carrier(dtype: tf.DType) -> tf.DType:
    """Returns a dtype that holds every value of `dtype` and can be gathered."""
    if dtype.is_floating:
        return tf.float32
    if dtype.is_bool or (dtype.is_integer and dtype.size < tf.int32.size):
        return tf.int32
    if dtype == tf.uint32:
        return tf.int64
    raise ValueError(
        "Outputs of `predict` must be numbers that workers can send each other. Received: an "
        f"output of dtype {dtype.name}. Return floats or integers, and look the rest up afterwards."
    )
