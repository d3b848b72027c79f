"""The masks that a schedule, a pattern and a score lead to; plain arithmetic of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.shrink.pruning.patterns import Axes, Pattern
from tfscale.shrink.pruning.schedules import SparsitySchedule

_ROUNDING = 1e-6
"""0.29 * 100 is 28.999999999999996 in float64, and 29 of 100 weights are meant."""


@dataclass(frozen=True)
class PrunedWeight:
    """A weight that is pruned.

    Attributes:
        variable: The Keras variable.
        axes: What its axes are.
        final: Its sparsity at the end. Above 0, below 1.
    """

    variable: Any
    axes: Axes
    final: float

    @property
    def path(self) -> str:
        """Its Keras path."""
        return str(self.variable.path)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.variable.shape)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The numbers of its matrices, inputs and outputs."""
        return self.axes.sizes(self.shape)


class Stages:
    """When a schedule changes, and how far it has come.

    Args:
        schedule: The sparsity by step.
    """

    def __init__(self, schedule: SparsitySchedule) -> None:
        steps = list(schedule.changes())
        self._steps = np.array(steps, np.int64)
        # Of the final sparsity, which may differ by weight.
        self._fractions = np.array([schedule(step) / schedule.final for step in steps])

    def is_due(self, seen: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
        """Tells whether the sparsity changes in (seen, now]."""
        return self._stage(now) > self._stage(seen)

    def fraction(self, now: tf.Tensor) -> tf.Tensor:
        """Returns the part of the final sparsity that is reached after the newest change."""
        return tf.gather(self._fractions, self._stage(now) - 1)

    def _stage(self, step: tf.Tensor) -> tf.Tensor:
        """Returns how many changes are due after `step`."""
        return tf.reduce_sum(tf.cast(self._steps <= step, tf.int32))


class PruningRule:
    """Keeps the weights with the highest scores; see `WeightMasks`.

    The score of a weight is its magnitude or its movement. Of u units with the sparsity s the
    floor(s u) with the lowest scores are pruned; of equal ones, the first. A pruned weight stays
    pruned.

    Args:
        schedule: The sparsity by step.
        pattern: What is pruned together.
        weights: All of them. If `is_global`, they have the same `final`.
        is_global: Whether the units of all weights are compared, instead of those of each.
    """

    def __init__(
        self,
        schedule: SparsitySchedule,
        pattern: Pattern,
        weights: Sequence[PrunedWeight],
        *,
        is_global: bool,
    ) -> None:
        self._stages = Stages(schedule)
        self._pattern = pattern
        self._weights = list(weights)
        self._is_global = is_global

    def is_due(self, seen: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
        """Tells whether the sparsity changes in (seen, now]."""
        return self._stages.is_due(seen, now)

    def masks(
        self,
        now: tf.Tensor,
        weights: Sequence[tf.Tensor],
        movements: Sequence[tf.Tensor],
        masks: Sequence[tf.Tensor],
    ) -> list[tf.Tensor]:
        """Returns new masks; see `MaskRule`."""
        fraction = self._stages.fraction(now)
        scores = [
            self._unit_scores(pruned.axes, weight, movement, mask)
            for pruned, weight, movement, mask in zip(
                self._weights, weights, movements or [None] * len(weights), masks, strict=True
            )
        ]
        if self._is_global:
            dtype = max((s.dtype for s in scores), key=lambda d: d.size)
            whole = tf.concat([tf.cast(s, dtype) for s in scores], axis=0)
            kept = highest(whole, fraction * self._weights[0].final)
            is_kept = tf.split(kept, [s.shape[0] for s in scores])
        else:
            is_kept = [
                highest(s, fraction * pruned.final)
                for s, pruned in zip(scores, self._weights, strict=True)
            ]
        return [
            pruned.axes.as_weight(self._pattern.mask(units, pruned.sizes), pruned.shape)
            for units, pruned in zip(is_kept, self._weights, strict=True)
        ]

    def _unit_scores(
        self, axes: Axes, weight: tf.Tensor, movement: tf.Tensor | None, mask: tf.Tensor
    ) -> tf.Tensor:
        dtype = tf.float64 if weight.dtype == tf.float64 else tf.float32
        score = tf.abs(tf.cast(weight, dtype)) if movement is None else movement
        score = tf.where(mask, score, tf.constant(-math.inf, score.dtype))
        return self._pattern.scores(axes.as_matrices(score))


def highest(scores: tf.Tensor, sparsity: tf.Tensor) -> tf.Tensor:
    """Tells of each of [units] whether it is kept."""
    units = scores.shape[0]
    num_pruned = tf.cast(tf.floor(units * sparsity + _ROUNDING), tf.int32)
    order = tf.argsort(scores, stable=True)
    is_kept = tf.cast(tf.range(units) >= num_pruned, tf.int32)
    return tf.cast(tf.scatter_nd(order[:, tf.newaxis], is_kept, [units]), tf.bool)
