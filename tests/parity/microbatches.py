"""The oracle of half precision: one device that takes each global batch as N microbatches.

A sum over rows in half precision depends on which rows are added before rounding. So the reference
adds the same rows as a replica does, and adds the gradients of microbatches as replicas do: in
float32, weighted by their rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def microbatch_step(num_microbatches: int) -> Callable[[Any, Any], dict[str, Any]]:
    """Returns a `train_step` for losses that are means over rows.

    Args:
        num_microbatches: Contiguous parts of each batch, of sizes at most one apart, the smaller
            ones first: microbatch r takes rows [r n // N, (r + 1) n // N). Positive.
    """

    def train_step(self: Any, data: Any) -> dict[str, Any]:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        rows = tf.shape(x)[0]
        totals = None
        for i in range(num_microbatches):
            part = slice(i * rows // num_microbatches, (i + 1) * rows // num_microbatches)
            gradients, size = _gradients(self, x[part], y[part], _part(weights, part))
            weighted = [tf.math.multiply_no_nan(g, size) for g in gradients]
            totals = (
                weighted
                if totals is None
                else [a + b for a, b in zip(totals, weighted, strict=True)]
            )
        mean = [total / tf.cast(rows, total.dtype) for total in totals or []]
        self.optimizer.apply(mean, self.trainable_variables)
        return dict(self.get_metrics_result())

    return train_step


def _part(weights: Any, part: slice) -> Any:
    return None if weights is None else weights[part]


def _gradients(model: Any, x: Any, y: Any, weights: Any) -> tuple[list[tf.Tensor], tf.Tensor]:
    with tf.GradientTape() as tape:
        predicted = model(x, training=True)
        loss = model.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=weights, training=True)
        scaled = model.optimizer.scale_loss(loss)
    size = tf.cast(tf.shape(x)[0], tf.float32)
    model._loss_tracker.update_state(loss, sample_weight=size)
    model.compute_metrics(x, y, predicted, sample_weight=weights)
    gradients = tape.gradient(scaled, model.trainable_variables)
    return [tf.cast(g, tf.float32) for g in gradients], size
