"""Weights the loss of each replica so that gradients add up to those of one device.

Keras divides its own losses by the number of replicas, but not a user's loss, which then counts
once for every replica (S12, S18). The reduction of gradients does not need that division: it
weights replica r by n_r, its examples, out of n. Inside a step the division is undone.

Weighing by examples is exact for a loss that is a mean over examples. A masked loss divides by the
valid elements, `mean_with_sample_weight` by the sum of the weights, and a sum by nothing: their own
divisor d_r does not follow n_r (S5, S20). Such a loss is multiplied, before backward, by

    (d_r / d) (n / n_r)    a mean with its own divisor, d the sum of the d_r
    n / n_r                a sum

so that weighing with n_r / n afterwards leaves S_r / d, or S_r: what one device has. The divisors
and n are sent in one small all-reduce per loss, or in one for all microbatches: see
`loss_divisors`. Losses divided by their examples need none of this.

A replica batch may have padding after its examples. A mask of the examples removes it before the
loss is reduced, so that the divisor is that of the examples.

A loss that is not reduced keeps a value per row; its weight is decided where it is reduced. Keras
sums what `add_loss` was given, so a vector over the examples is a sum there (S23).
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from keras.src.losses import loss as keras_loss

from strategies.keras_support.context.rows import is_over_rows, may_be_over_rows
from strategies.keras_support.context.step_context import (
    StepContext,
    current_step,
    sum_over_replicas,
)

_NOT_REDUCED = ("none", None)


def loss_weighted_over_replicas(reduce_weighted_values: Any) -> Any:
    """Replaces `reduce_weighted_values`: corrects for divisors that differ by replica."""

    @functools.wraps(reduce_weighted_values)
    def weighted(
        values: Any,
        sample_weight: Any = None,
        mask: Any = None,
        reduction: Any = "sum_over_batch_size",
        dtype: Any = None,
    ) -> Any:
        step = current_step()
        is_masked = mask is not None
        if step is not None and step.padded_rows is not None and reduction not in _NOT_REDUCED:
            mask = _without_padding(tf.convert_to_tensor(values), mask, step)
        loss = reduce_weighted_values(values, sample_weight, mask, reduction, dtype)
        if step is None or not step.is_of_several:
            return loss
        if reduction in _NOT_REDUCED:
            return loss
        if reduction == "sum":
            return loss * tf.cast(step.scale_of_sums(), loss.dtype)
        if not is_masked and (reduction != "mean_with_sample_weight" or sample_weight is None):
            return loss
        wide = tf.float64 if loss.dtype == tf.float64 else tf.float32
        examples = tf.cast(step.examples, wide)
        divisor = tf.cast(_divisor(values, sample_weight, mask, reduction), wide)
        divisor *= tf.cast(step.examples > 0, wide)  # the row of a replica without any is not its
        total = _of_all(divisor, examples, step)
        if total is None:
            return loss
        factor = tf.math.divide_no_nan(divisor * total[1], total[0] * examples)
        return loss * tf.cast(factor, loss.dtype)

    return weighted


def _of_all(divisor: tf.Tensor, examples: tf.Tensor, step: StepContext) -> Any:
    """Returns divisor and examples of the global batch; None while divisors are collected."""
    if step.divisors is None:
        # Counts and weights of the data: no gradient flows.
        return tf.stop_gradient(sum_over_replicas(tf.stack([divisor, examples])))
    total = step.divisors.total_of(divisor)
    if total is None:
        return None
    return tf.cast(total, divisor.dtype), tf.cast(step.all_examples, divisor.dtype)


def _without_padding(values: tf.Tensor, mask: Any, step: StepContext) -> tf.Tensor:
    """Returns the mask of a loss, without the rows of a replica batch that are padding."""
    over = values if mask is None else tf.cast(mask, tf.bool)
    size = tf.cast(step.padded_rows, tf.int32)
    if not over.shape.rank:
        return tf.range(size) < step.examples
    rows = tf.shape(over)[0]  # of another number of rows, they are something else
    is_example = tf.range(rows) < tf.where(rows == size, step.examples, rows)
    is_example = tf.reshape(is_example, [-1, *[1] * (over.shape.rank - 1)])
    if mask is None:
        return tf.broadcast_to(is_example, tf.shape(values))
    return over & is_example


def _divisor(values: Any, sample_weight: Any, mask: Any, reduction: str) -> tf.Tensor:
    """The divisor of this replica's sum, found with Keras's own arithmetic."""
    values = tf.convert_to_tensor(values)
    if reduction == "mean_with_sample_weight":
        weight = keras_loss.apply_mask(
            None if sample_weight is None else tf.cast(sample_weight, values.dtype),
            mask,
            dtype=values.dtype,
            reduction=reduction,
        )
        return tf.reduce_sum(tf.cast(weight, values.dtype))
    return tf.reduce_sum(tf.cast(mask, values.dtype))


def added_rows_summed(aggregate_additional_loss: Any) -> Any:
    """Counts a vector over the examples, which Keras sums, as the sum of all replicas' (S23)."""

    @functools.wraps(aggregate_additional_loss)
    def summed(self: Any, loss: Any) -> Any:
        total, step = aggregate_additional_loss(self, loss), current_step()
        if step is None or not step.is_of_several:
            return total
        if not may_be_over_rows(loss, step.examples):
            return total
        scale = tf.cast(step.scale_of_sums(), total.dtype)  # together, however many rows are here
        return total * scale if is_over_rows(loss, step.examples) else total

    return summed


def unscaled_in_step(scale: Any) -> Any:
    """Removes Keras's division by the number of replicas, or its multiplication, from our steps.

    So a user's loss has the same weight as one of Keras's. It also avoids an error in float64:
    Keras multiplies by 1/3 in float32, which is wrong by 1e-8.
    """

    @functools.wraps(scale)
    def unscaled(value: Any) -> Any:
        return scale(value) if current_step() is None else value

    return unscaled


def recorded_and_unscaled(unscale: Any) -> Any:
    """Replaces `unscale_loss_for_distribution`, which a step of Keras calls for its logs.

    It is the one place where a step names the loss that it minimizes: see `record_loss`.
    """
    unscale_outside = unscaled_in_step(unscale)

    @functools.wraps(unscale)
    def recorded(value: Any) -> Any:
        loss, step = unscale_outside(value), current_step()
        if step is not None:
            step.record_loss(loss)
        return loss

    return recorded
