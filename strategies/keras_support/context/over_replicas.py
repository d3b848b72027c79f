"""What a training step of the user's own needs of the whole batch: sums, ratios, means and rows.

A replica sees its share of a batch. Most losses are means over examples, and the means of the
shares, weighed by their examples, are the mean of the batch. A loss that divides by what it counts,
or that compares examples with each other, needs more:

    class Detector(keras.Model):
        def train_step(self, data):
            ...
            loss = tfscale.ratio_over_replicas(sum_of_losses, number_of_positives)

On one device, outside of a training step and under any other strategy these functions do what their
names say of the one share there is, so the same step runs everywhere.

All of them are differentiable. A replica's loss counts n_r / n, its part of the examples, but only
after backward; so what flows from replica r's loss to replica s's input is sent as n_r and received
as 1 / n_s, to become n_r / n in the end.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.context.replica_sums import (
    carrier_of,
    in_step,
    marked_alike,
    received,
    step_of_several,
    total_of,
)
from strategies.keras_support.context.rows import is_over_rows
from strategies.keras_support.context.step_context import StepContext


def sum_over_replicas(value: Any) -> Any:
    """Adds up a count or a sum over the replicas: of a share in, of the whole batch out.

    Args:
        value: A number of this replica's examples: a tensor of any shape, the same on all replicas.
            Booleans count as 0 and 1. A replica without examples adds nothing.

    Returns:
        A tensor of the same shape and dtype (int32 for booleans), the same on all replicas. On one
        device: `value` itself.

    Raises:
        ValueError: If `value` has a row for each example, or if it is called inside of a tf.cond,
            tf.while_loop or tf.function of a step.

    Example:
        >>> positives = sum_over_replicas(tf.reduce_sum(tf.cast([1, 0, 1], tf.int32)))
        >>> int(positives)  # on one device
        2
    """
    step = step_of_several()
    if step is None:
        return keras.ops.cast(value, "int32") if _is_bool(value) else value
    return _sum(step, _number(value), "sum_over_replicas")


def ratio_over_replicas(total: Any, count: Any) -> Any:
    """Divides a sum by a count, both of the whole batch: for losses that count for themselves.

    With S_r and P_r, the sum and the count of replica r's examples, the ratio of the whole batch is
    sum_r S_r / sum_r P_r. A replica's part of it is

        (S_r / sum_s P_s) (n / n_r)

    whose mean, weighed by examples (n_r of n), is that ratio, as are the means of its gradients.

    Args:
        total: The sum over this replica's examples.
        count: What the sum of the whole batch is to be divided by, of this replica's examples: a
            number of positives, or a sum of weights.

    Returns:
        This replica's part, a tensor of the dtype of `total` (of `keras.config.floatx()` if that is
        no float). Zero where the batch counts nothing. Use it as a loss, add it to other losses, or
        feed it to a `keras.metrics.Mean`. On one device: `total / count`.

    Raises:
        ValueError: If it is called inside of a tf.cond, tf.while_loop or tf.function of a step.

    Example:
        >>> float(ratio_over_replicas(tf.constant(6.0), tf.constant(4)))  # on one device
        1.5
    """
    dtype = keras.backend.standardize_dtype(total.dtype)
    dtype = dtype if keras.backend.is_float_dtype(dtype) else keras.config.floatx()
    total, count = keras.ops.cast(total, dtype), keras.ops.cast(count, dtype)
    step = step_of_several()
    if step is None:
        return keras.ops.divide_no_nan(total, count)
    part = tf.math.divide_no_nan(total, _sum(step, count, "ratio_over_replicas"))
    scale = in_step(step.scale_of_sums, "ratio_over_replicas")
    # A replica without examples computes on a row that stands in, and may find NaN.
    return tf.math.multiply_no_nan(part, tf.cast(scale, dtype))


def mean_over_replicas(value: Any) -> Any:
    """Averages over all replicas, weighed by their examples, at once: for what decides a step.

    A condition must come out alike on all replicas. `tf.math.is_finite(loss)` does not, since a
    replica's loss is that of its share; `tf.math.is_finite(mean_over_replicas(loss))` does.

    Args:
        value: A mean over this replica's examples: a tensor of any shape, the same on all replicas.
            Integers and booleans become `keras.config.floatx()`.

    Returns:
        A tensor of the same shape, the same on all replicas. On one device: `value` itself.

    Raises:
        ValueError: If `value` has a row for each example, or if it is called inside of a tf.cond,
            tf.while_loop or tf.function of a step.

    Example:
        >>> float(mean_over_replicas(tf.constant(0.25)))  # on one device
        0.25
    """
    dtype = keras.backend.standardize_dtype(value.dtype)
    if not keras.backend.is_float_dtype(dtype):
        value = keras.ops.cast(value, keras.config.floatx())
    step = step_of_several()
    if step is None:
        return value
    value = tf.convert_to_tensor(value)
    _refuse_rows(step, value)
    share = tf.cast(in_step(step.share, "mean_over_replicas"), value.dtype)

    @tf.custom_gradient
    def mean(own: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return total_of(tf.math.multiply_no_nan(upstream, share))

        return total_of(tf.math.multiply_no_nan(own, share)), gradient

    return marked_alike(step, in_step(lambda: mean(value), "mean_over_replicas"))


def _refuse_rows(step: StepContext, value: tf.Tensor) -> None:
    if value.shape.rank and tf.is_symbolic_tensor(value) and is_over_rows(value, step.examples):
        raise ValueError(
            "`value` must have the same shape on all replicas, which hold different numbers of "
            f"examples. Received: a value of shape {value.shape}, with a row for each example. Add "
            "the rows up first, or take their mean; for the rows themselves, use all_gather."
        )


def _sum(step: StepContext, value: tf.Tensor, name: str) -> tf.Tensor:
    _refuse_rows(step, value)
    examples = step.examples

    @tf.custom_gradient
    def add_up(own: tf.Tensor) -> Any:
        held = tf.math.multiply_no_nan if own.dtype.is_floating else tf.multiply
        total = total_of(held(own, tf.cast(examples > 0, own.dtype)))
        return total, lambda upstream: received(upstream, examples)

    carried = tf.cast(value, carrier_of(value.dtype))
    total = in_step(lambda: add_up(carried), name)
    return marked_alike(step, tf.cast(total, value.dtype))


def _number(value: Any) -> tf.Tensor:
    value = tf.convert_to_tensor(value)
    return tf.cast(value, tf.int32) if value.dtype == tf.bool else value


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or getattr(value, "dtype", None) in (tf.bool, "bool")
