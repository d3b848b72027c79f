"""The BatchNorm patch: equal statistics on all replicas, and exact ones when synchronized.

Keras keeps moving statistics replica by replica, saves those of the first, and takes the mean of an
empty replica batch, which is NaN (S2, S3). Here the replicas' moving statistics are averaged by
their examples in the same pack as the gradients, which costs no further collective; see
`moving_statistics`.

A plain BatchNormalization still normalises with the replica's batch, as documented, so N replicas
train another model than one device. With `synchronized=True` N replicas match one device. Keras
computes it as E[x^2] - E[x]^2, which cancels for large means, in three all-reduces, and without the
mask. Here each replica's count, mean and squared deviations are sent in one all-reduce and merged.

Source: Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
variances" (the merge).
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.context.step_context import current_step, sum_over_replicas
from strategies.keras_support.patching.ownership import is_owned


def moving_statistics(model: Any) -> list[Any]:
    """Returns the moving statistics that a training step of `model` writes on every replica."""
    return [
        variable
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and layer.built
        for variable in layer.non_trainable_variables
    ]


def is_synchronized(layer: Any, *_: Any, **__: Any) -> bool:
    """Tells whether a BatchNormalization normalises with the global batch."""
    return bool(layer.synchronized)


def moments_over_replicas(moments: Any) -> Any:
    """Replaces `BatchNormalization._moments`: merges the replicas' where synchronized."""

    @functools.wraps(moments)
    def over_replicas(self: Any, inputs: Any, mask: Any) -> Any:
        step, replica = current_step(), tf.distribute.get_replica_context()
        if (
            not is_synchronized(self)
            or step is None
            or replica is None
            or not is_owned(replica.strategy)
        ):
            return moments(self, inputs, mask)
        # A dry run computes nothing, and is traced where no replica may wait for others.
        is_dry = step.divisors is not None and step.divisors.is_dry
        if replica.num_replicas_in_sync == 1 and not is_dry:
            return moments(self, inputs, mask)
        count, mean, deviation = _local_moments(inputs, mask, self._reduction_axes)
        if is_dry:
            return mean, tf.math.divide_no_nan(deviation, count)
        # The stand-in row of a replica without examples has no weight.
        held = tf.cast(step.examples > 0, inputs.dtype)
        count, deviation = count * held, tf.math.multiply_no_nan(deviation, held)
        local = tf.concat([[count], mean, deviation], axis=0)
        gathered = _gather(replica, local, tf.cast(step.examples, local.dtype))
        channels = tf.shape(mean)[0]
        counts, means, deviations = tf.split(gathered, [1, channels, channels], axis=1)
        total = tf.reduce_sum(counts)
        merged_mean = tf.math.divide_no_nan(tf.reduce_sum(counts * means, axis=0), total)
        between = counts * tf.square(means - merged_mean)
        merged = tf.reduce_sum(deviations + between, axis=0)
        if mask is not None:
            # Keras divides by the valid elements plus epsilon, also on one device; this does the
            # same.
            divisor = total + keras.config.epsilon()
            shrunk = merged_mean * total / divisor
            merged += total * tf.square(merged_mean - shrunk)
            merged_mean, total = shrunk, divisor
        static = inputs.shape[self.axis]
        return (
            tf.ensure_shape(merged_mean, [static]),
            tf.ensure_shape(tf.math.divide_no_nan(merged, total), [static]),
        )

    return over_replicas


def _local_moments(inputs: Any, mask: Any, axes: list[int]) -> tuple[Any, Any, Any]:
    """Count, mean and sum of squared deviations of this replica's elements, channel by channel."""
    valid = tf.ones_like(inputs)
    if mask is not None:
        valid = tf.broadcast_to(tf.cast(mask, inputs.dtype)[..., tf.newaxis], tf.shape(inputs))
        inputs = tf.where(valid > 0, inputs, tf.zeros_like(inputs))
    counts = tf.reduce_sum(valid, axis=axes)
    mean = tf.math.divide_no_nan(tf.reduce_sum(inputs, axis=axes), counts)
    shape = [1 if axis in axes else -1 for axis in range(inputs.shape.rank)]
    deviation = tf.square(inputs - tf.reshape(mean, shape)) * valid
    return counts[0], mean, tf.reduce_sum(deviation, axis=axes)


def _gather(replica: Any, local: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """Stacks `local` of all replicas, [replicas, ...]; its gradient respects the replicas' weights.

    A replica's loss counts n_r / n, but only after backward. So what flows from replica r's loss to
    replica s's input is sent as n_r and received as 1 / n_s, to become n_r / n in the end.
    """

    @tf.custom_gradient
    def gather(value: tf.Tensor) -> Any:
        # An all-reduce of rows that are zero but for one's own: TensorFlow's gather would first ask
        # for the sizes, in another collective.
        is_own = tf.range(replica.num_replicas_in_sync) == replica.replica_id_in_sync_group
        rows = tf.where(is_own[:, tf.newaxis], value[tf.newaxis], tf.zeros_like(value)[tf.newaxis])
        stacked = sum_over_replicas(rows)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            weighted = tf.math.multiply_no_nan(upstream, examples)
            summed = sum_over_replicas(weighted)
            own = tf.gather(summed, replica.replica_id_in_sync_group)
            return tf.math.divide_no_nan(own, examples)

        return stacked, gradient

    return gather(local)
