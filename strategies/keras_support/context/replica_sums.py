"""What the functions over replicas have in common: see `over_replicas`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.lineage import Source
from strategies.keras_support.context.step_context import StepContext, current_step
from strategies.keras_support.context.step_context import sum_over_replicas as sum_of_tensors


def step_of_several() -> StepContext | None:
    """Returns the step that this replica takes beside others, or None."""
    step, replica = current_step(), tf.distribute.get_replica_context()
    if step is None or replica is None or replica.num_replicas_in_sync == 1:
        return None
    return step


def received(upstream: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """The gradient with respect to this replica's part of what all replicas were given."""
    weight = tf.cast(examples, upstream.dtype)
    return tf.math.divide_no_nan(total_of(tf.math.multiply_no_nan(upstream, weight)), weight)


def total_of(own: tf.Tensor) -> tf.Tensor:
    """The sum over replicas; the gradients around say themselves how it is differentiated."""
    total: tf.Tensor = sum_of_tensors(own)
    return total


def in_step(compute: Callable[[], Any], name: str) -> Any:
    """Computes what replicas meet for; says what is wrong where they cannot."""
    try:
        return compute()
    except RuntimeError as error:
        if "merge_call" not in str(error):
            raise
        raise ValueError(
            f"`{name}` must be called in `train_step` or `test_step` itself, where replicas can "
            "meet. Received: a call inside of a tf.cond, tf.while_loop or tf.function. Call it "
            "before, and use the result inside."
        ) from error


def marked_alike(step: StepContext, tensor: tf.Tensor) -> tf.Tensor:
    """Notes that all replicas hold the same."""
    step.lineage.mark([tensor], Source.SHARED)
    return tensor


def carrier_of(dtype: tf.DType) -> tf.DType:
    """Returns what can be added up and holds every value of `dtype`."""
    if dtype in (tf.float16, tf.bfloat16):
        return tf.float32
    if dtype == tf.bool or (dtype.is_integer and dtype.size < tf.int32.size):
        return tf.int32
    return dtype
