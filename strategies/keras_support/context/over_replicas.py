"""Sums, ratios, means and rows of the global batch, for custom training steps.

A replica sees its replica batch. Most losses are means over examples, and the means of the replica
batches, weighted by their examples, are the mean of the global batch. A loss that divides by a
count, or that compares examples with each other, needs more:

    class Detector(keras.Model):
        def train_step(self, data):
            ...
            loss = tfscale.ratio_over_replicas(sum_of_losses, number_of_positives)

On one device, outside of a training step and under any other strategy these functions do what their
names say with the only batch there is, so the same step runs everywhere.

All of them are differentiable. A replica's loss counts n_r / n, its fraction of the examples, but
only after backward; so what flows from replica r's loss to replica s's input is sent as n_r and
received as 1 / n_s, to become n_r / n in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.context.lineage import Source
from strategies.keras_support.context.rows import is_over_rows
from strategies.keras_support.context.step_context import StepContext, current_step
from strategies.keras_support.context.step_context import sum_over_replicas as sum_of_tensors


def sum_over_replicas(value: Any) -> Any:
    """Adds up a count or a sum over the replicas: of a replica batch in, of the global batch out.

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
    """Divides a sum by a count, both of the whole batch: for losses with their own denominator.

    With S_r and P_r, the sum and the count of replica r's examples, the ratio of the whole batch is
    sum_r S_r / sum_r P_r. A replica's part of it is

        (S_r / sum_s P_s) (n / n_r)

    whose mean, weighted by examples (n_r of n), is that ratio, as are the means of its gradients.

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
    # A replica without examples computes on a stand-in row, which may give NaN.
    return tf.math.multiply_no_nan(part, tf.cast(scale, dtype))


def mean_over_replicas(value: Any) -> Any:
    """Averages over all replicas, weighted by their examples, at once: for decisions in a step.

    A condition must be the same on all replicas. `tf.math.is_finite(loss)` does not, since a
    replica's loss is that of its replica batch; `tf.math.is_finite(mean_over_replicas(loss))` does.

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
    fraction = tf.cast(in_step(step.fraction, "mean_over_replicas"), value.dtype)

    @tf.custom_gradient
    def mean(own: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return total_of(tf.math.multiply_no_nan(upstream, fraction))

        return total_of(tf.math.multiply_no_nan(own, fraction)), gradient

    return marked_alike(step, in_step(lambda: mean(value), "mean_over_replicas"))


def _refuse_rows(step: StepContext, value: tf.Tensor) -> None:
    if value.shape.rank and tf.is_symbolic_tensor(value) and is_over_rows(value, step.examples):
        raise ValueError(
            "`value` must have the same shape on all replicas, which may have different numbers "
            f"of examples. Received: a value of shape {value.shape}, with a row for each example. "
            "Reduce the rows to their sum or mean first, or collect them with all_gather."
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


def all_gather(rows: Any) -> Any:
    """Returns the rows of the whole batch, in its order, on every replica: for losses over pairs.

    A contrastive loss (SimCLR) compares each example with all others of the batch. Gather what is
    compared, each view by itself, and compute the whole loss from it on every replica:

        first, second = tfscale.all_gather(first), tfscale.all_gather(second)
        loss = contrastive_loss(first, second)

    Args:
        rows: A tensor with a row for each of this replica's examples. The replicas may hold
            different numbers of them.

    Returns:
        A tensor with a row for each example of the batch. On one device: `rows` itself.

    Raises:
        ValueError: If `rows` has no rows or holds strings, or if it is called inside of a tf.cond,
            tf.while_loop or tf.function of a step.

    Example:
        >>> all_gather(tf.constant([[1.0], [2.0]])).shape  # on one device
        TensorShape([2, 1])
    """
    step = step_of_several()
    if step is None:
        return rows
    rows = tf.convert_to_tensor(rows)
    if rows.shape.rank == 0 or rows.dtype == tf.string:
        raise ValueError(
            "`rows` must be a tensor of numbers with a row for each example. Received: "
            f"rows of shape {rows.shape} and dtype {rows.dtype.name}. Gather numbers, such as the "
            "indices of strings."
        )
    carrier = carrier_of(rows.dtype)
    replica = tf.distribute.get_replica_context()
    index, num_replicas = replica.replica_id_in_sync_group, replica.num_replicas_in_sync
    examples = step.examples

    @tf.custom_gradient
    def gather(own: tf.Tensor) -> Any:
        # The stand-in row of a replica without examples is not one of the batch.
        count = tf.where(examples > 0, tf.shape(own)[0], 0)
        counts = sum_of_tensors(tf.one_hot(index, num_replicas, dtype=tf.int32) * count)
        before = tf.reduce_sum(counts[:index])
        behind = tf.reduce_sum(counts) - before - count
        padding = [[before, behind], *([[0, 0]] * (own.shape.rank - 1))]
        gathered = total_of(tf.pad(own[:count], padding))

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            own_part = received(upstream, examples)[before : before + count]
            missing = tf.shape(own)[0] - count
            return tf.pad(own_part, [[0, missing], *([[0, 0]] * (own.shape.rank - 1))])

        return tf.ensure_shape(gathered, [None, *own.shape[1:]]), gradient

    whole = in_step(lambda: gather(tf.cast(rows, carrier)), "all_gather")
    return marked_alike(step, tf.cast(whole, rows.dtype))


def step_of_several() -> StepContext | None:
    """Returns this replica's step if there are several replicas, or None.

    Raises:
        ValueError: In a microbatch.
    """
    step = current_step()
    if step is not None and step.divisors is not None:
        raise ValueError(
            "`microbatches` must be 1 if a step uses tfscale.sum_over_replicas, "
            "ratio_over_replicas, mean_over_replicas or all_gather, because a microbatch does not "
            "know the others. Received: such a call in a microbatch. Train without microbatches."
        )
    return step if step is not None and step.is_of_several else None


def received(upstream: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """The gradient with respect to this replica's part of what all replicas were given."""
    weight = tf.cast(examples, upstream.dtype)
    return tf.math.divide_no_nan(total_of(tf.math.multiply_no_nan(upstream, weight)), weight)


def total_of(own: tf.Tensor) -> tf.Tensor:
    """The sum over replicas; the gradients around say themselves how it is differentiated."""
    total: tf.Tensor = sum_of_tensors(own)
    return total


def in_step(compute: Callable[[], Any], name: str) -> Any:
    """Computes a value that needs all replicas; explains the error if they cannot communicate."""
    try:
        return compute()
    except RuntimeError as error:
        if "merge_call" not in str(error):
            raise
        raise ValueError(
            f"`{name}` must be called in `train_step` or `test_step` itself, where replicas can "
            "communicate. Received: a call inside a tf.cond, tf.while_loop or tf.function. "
            "Call it before, and use the result inside."
        ) from error


def marked_alike(step: StepContext, tensor: tf.Tensor) -> tf.Tensor:
    """Notes that the tensor is the same on all replicas."""
    step.lineage.mark([tensor], Source.SHARED)
    return tensor


def carrier_of(dtype: tf.DType) -> tf.DType:
    """Returns a dtype that can be added up and has every value of `dtype`."""
    if dtype in (tf.float16, tf.bfloat16):
        return tf.float32
    if dtype == tf.bool or (dtype.is_integer and dtype.size < tf.int32.size):
        return tf.int32
    return dtype
