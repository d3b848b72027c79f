"""The weighted sum of a replica's gradients of several microbatches.

Dense gradients are added up as they come, so that one sum and one gradient are in memory. Half
precision is added up in float32. The rows of sparse gradients are as many as those of the whole
batch, and are put together as on one device: see `sparse_gradients`. Between workers the gradient
of a sharded parameter is reduced as it comes, and its parts are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.lineage import Lineage, Source
from strategies.keras_support.context.weighted_gradients import concatenated, weighted
from strategies.keras_support.gradients.gradient_reduce import Gradient
from strategies.keras_support.gradients.sparse_gradients import Rows, SparsePart, added_up, parts_of
from strategies.keras_support.sharding.scattering import ShardedGradient


class GradientSum:
    """Adds up gradients with weights.

    Args:
        lineage: That of the step.
    """

    def __init__(self, lineage: Lineage) -> None:
        self._lineage = lineage
        self._sums: list[Any] | None = None
        self._dtypes: list[tf.DType | None] = []
        self._divided: dict[int, ShardedGradient] = {}

    def add(self, gradients: Sequence[Gradient | None], weight: Any) -> None:
        """Adds the gradients of one microbatch.

        Args:
            gradients: This replica's; `None` where a variable has none, the same each time.
            weight: float64 scalar or a number. Where it may be 0 it is a tensor, and a gradient
                that is not finite counts as 0 then.
        """
        if self._sums is None:
            self._dtypes = [None if g is None else g.dtype for g in gradients]
            self._sums = [None] * len(gradients)
        for i, gradient in enumerate(gradients):
            if isinstance(gradient, tf.IndexedSlices):
                rows = [
                    SparsePart(part.kind, _with_values(part.slices, weight))
                    for part in parts_of(gradient, self._lineage)
                ]
                self._sums[i] = [*(self._sums[i] or []), rows]
            elif gradient is not None:
                if isinstance(gradient, ShardedGradient):  # weighted when it was reduced
                    self._divided[i] = gradient
                    own = weighted(gradient.part, 1.0)
                else:
                    own = weighted(gradient, weight)
                self._sums[i] = own if self._sums[i] is None else self._sums[i] + own

    def pending(self) -> list[tf.Tensor]:
        """Returns the tensors that the next microbatch has to wait for."""
        waiting: list[tf.Tensor] = []
        for each in self._sums or []:
            if isinstance(each, list):
                waiting += [part.slices.values for part in each[-1]]
            elif each is not None:
                waiting.append(each)
        return waiting

    def result(self) -> list[Gradient | None]:
        """Returns the sums, in the dtypes of the gradients."""
        results: list[Gradient | None] = []
        for i, (each, dtype) in enumerate(zip(self._sums or [], self._dtypes, strict=True)):
            if each is None:
                results.append(None)
            elif isinstance(each, list):
                joined = [_joined(parts, self._lineage) for parts in zip(*each, strict=True)]
                results.append(_cast(concatenated(joined), dtype))
            elif i in self._divided:
                results.append(replace(self._divided[i], part=tf.cast(each, dtype)))
            else:
                results.append(tf.cast(each, dtype))
        return results


def _with_values(slices: tf.IndexedSlices, weight: Any) -> tf.IndexedSlices:
    return tf.IndexedSlices(weighted(slices.values, weight), slices.indices, slices.dense_shape)


def _joined(parts: Sequence[SparsePart], lineage: Lineage) -> tf.IndexedSlices:
    """Puts the rows of one lookup together, from all microbatches."""
    kind, first = parts[0].kind, parts[0].slices
    if kind is Rows.POSITIONS:  # the same rows in each microbatch
        values = tf.add_n([part.slices.values for part in parts])
        lineage.mark([first.indices], Source.SHARED)  # may be split off from those of a batch
        return tf.IndexedSlices(values, first.indices, first.dense_shape)
    rows = concatenated([part.slices for part in parts])
    return added_up(rows) if kind is Rows.UNIQUE else rows


def _cast(rows: tf.IndexedSlices, dtype: Any) -> tf.IndexedSlices:
    return tf.IndexedSlices(tf.cast(rows.values, dtype), rows.indices, rows.dense_shape)
