"""The step judge: is this step's loss or gradient like those before it? Answered in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

KINDS = ("good", "loss_not_finite", "norm_not_finite", "loss_spike", "norm_spike")
"""What a step can be, by the number that `StepJudge.judge` returns."""


class StepJudge:
    """Knows the losses and gradient norms of the last good steps; its notes lie with each replica.

    Args:
        factor: A norm or a loss x is a spike if x - median > (factor - 1) |median|, which for a
            positive median is x > factor * median. Above 1, or None to look for NaN and inf alone.
        window: Good steps that the median is taken of, at most.
        warmup_steps: Good steps before the first spike is called one. At least 1.
    """

    def __init__(self, *, factor: float | None, window: int, warmup_steps: int) -> None:
        self._factor = factor
        self._warmup_steps = warmup_steps
        self._norms = judging_variable([window], "float64")
        self._losses = judging_variable([window], "float64")
        self._good = judging_variable([], "int64")

    @property
    def variables(self) -> list[Any]:
        """What `learn` writes."""
        return [self._norms, self._losses, self._good]

    def judge(
        self, norm: tf.Tensor, loss: tf.Tensor | None, is_scaled: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the number of the first of `KINDS` that applies, and the limit it broke.

        Args:
            norm: float64 scalar, the gradient's, unscaled.
            loss: float64 scalar, or None where it is not known.
            is_scaled: Whether the loss was scaled dynamically. Then a gradient that is not finite
                is the scale's own business, unless the loss, which is not scaled, is not finite
                either.
        """
        nan = tf.constant(np.nan, tf.float64)
        is_finite = tf.math.is_finite(norm)
        verdicts = []
        if loss is not None:
            verdicts.append((1, tf.logical_not(tf.math.is_finite(loss)), nan))
        if not is_scaled:
            verdicts.append((2, tf.logical_not(is_finite), nan))
        for number, value, earlier in ((3, loss, self._losses), (4, norm, self._norms)):
            if value is not None and self._factor is not None:
                limit = self._limit(self._factor, earlier.value)
                verdicts.append((number, tf.logical_and(is_finite, value > limit), limit))
        kind, broken = tf.constant(0), nan
        for number, applies, limit in reversed(verdicts):
            kind, broken = tf.where(applies, number, kind), tf.where(applies, limit, broken)
        return kind, broken

    def learn(self, norm: tf.Tensor, loss: tf.Tensor | None) -> None:
        """Counts a good step among those that later ones are judged by."""
        rings = [(self._norms, norm), *([] if loss is None else [(self._losses, loss)])]
        # A gradient that overflowed under its scale says nothing about the next one.
        note(rings, self._good, tf.math.is_finite(norm))

    def _limit(self, factor: float, earlier: tf.Tensor) -> tf.Tensor:
        window = earlier.shape[0]
        count = tf.minimum(self._good.value, window)
        is_filled = tf.range(window, dtype=tf.int64) < count
        ordered = tf.sort(tf.where(is_filled, earlier, tf.constant(np.inf, tf.float64)))
        middle = tf.stack([tf.maximum(count - 1, 0) // 2, count // 2])
        median = tf.reduce_mean(tf.gather(ordered, middle))
        limit = median + (factor - 1) * tf.abs(median)
        is_warm = self._good.value >= self._warmup_steps
        return tf.where(is_warm, limit, tf.constant(np.inf, tf.float64))


def judging_variable(shape: list[int], dtype: str) -> Any:
    """Makes a variable of zeros that each replica keeps for itself, like the optimizer's count."""
    return keras.Variable(
        np.zeros(shape, dtype),
        dtype=dtype,
        trainable=False,
        autocast=False,
        aggregation="only_first_replica",
        name="gradient_watch",
    )


def note(rings: Sequence[tuple[Any, Any]], count: Any, is_noted: tf.Tensor) -> None:
    """Writes each value over the oldest entry of its ring, and counts it, where `is_noted`."""
    for ring, value in rings:
        size = ring.shape[0]
        is_oldest = tf.range(size, dtype=tf.int64) == count.value % size
        is_oldest = tf.reshape(is_oldest, [size] + [1] * (len(ring.shape) - 1))
        entry = tf.convert_to_tensor(value)
        ring.assign(tf.where(tf.logical_and(is_oldest, is_noted), entry, ring.value))
    count.assign_add(tf.cast(is_noted, tf.int64))


def global_norm(gradients: Sequence[Any], scale: Any) -> tf.Tensor:
    """Returns the norm of all gradients together; as in Keras's clipping, sparse rows one by one.

    Args:
        gradients: `None` where a variable has none.
        scale: What the loss was multiplied by, or None. Divided out before squaring, which in
            float32 overflows from 2e19 on.

    Returns:
        float64 scalar.
    """
    squares = []
    for gradient in gradients:
        if gradient is not None:
            values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
            values = tf.cast(values, tf.float64 if values.dtype == tf.float64 else tf.float32)
            if scale is not None:
                values = values / tf.cast(scale, values.dtype)
            squares.append(tf.cast(tf.reduce_sum(tf.square(values)), tf.float64))
    return tf.sqrt(tf.add_n(squares))
