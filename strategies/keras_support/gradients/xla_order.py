"""Order of computations in XLA, which knows no control edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf


def waiting_for(waited: Sequence[tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns what makes a tensor wait for others in a program that XLA compiles.

    XLA's CPU compiler removes optimization barriers before it merges equal computations, and before
    it chooses the order. So this adds what `tf.recompute_grad` adds: a zero that depends on the
    others by a condition that XLA does not simplify.

    Args:
        waited: Tensors of numbers, at least one.
    """
    first = [tf.cast(tf.reshape(each, [-1])[:1], tf.float32) for each in waited]
    is_true = tf.cast(tf.reduce_max(tf.concat(first, axis=0)), tf.bool)  # also of NaN
    zero = tf.where(tf.equal(is_true, is_true), 0.0, float("nan"))

    def after(tensor: tf.Tensor) -> tf.Tensor:
        if tensor.dtype == tf.bool:
            return tf.logical_or(tensor, tf.not_equal(zero, 0.0))
        return tensor + tf.cast(zero, tensor.dtype)

    return after
