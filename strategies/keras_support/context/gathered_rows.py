"""The rows of the whole batch on every replica, differentiable: see `over_replicas`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from strategies.keras_support.context.replica_sums import (
    carrier_of,
    in_step,
    marked_alike,
    received,
    step_of_several,
    total_of,
)
from strategies.keras_support.context.step_context import sum_over_replicas as sum_of_tensors


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
        # The row that stands in for no examples is not one of the batch.
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
