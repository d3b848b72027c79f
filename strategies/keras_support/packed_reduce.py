"""One all-reduce for all gradients of a step, weighted by the examples behind them.

A loss is a mean over examples plus terms that do not depend on the data (regularizers). With n_r
examples on replica r and n in all, replica r's gradient is g_r = grad mean_r + grad reg, and what
one device would compute on the whole batch is

    sum_r (n_r / n) grad mean_r + grad reg  =  sum_r n_r g_r / n

so n_r g_r is summed, n_r rides in the same pack, and the quotient is exact for any split of the
batch, an empty replica included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

from strategies.keras_support.step_context import sum_over_replicas

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices


def reduce_gradients(
    gradients: Sequence[Gradient | None], examples: tf.Tensor | None
) -> list[Gradient | None]:
    """Sums every gradient over all replicas, in replica context.

    Dense gradients travel as one flat tensor (one a dtype), half precision as float32, so that a
    sum of many replicas cannot overflow. Sparse gradients (`tf.IndexedSlices`, an embedding's) are
    gathered, rows in the order of the replicas.

    Args:
        gradients: This replica's gradients; `None` where a variable has none. The same pattern of
            `None`, dense and sparse on all replicas.
        examples: int32 scalar, the examples behind this replica's gradients, or None for a plain
            sum (a training loop of the user's own, which weighs for itself).

    Returns:
        The reduced gradients in the given order and dtypes, the same on all replicas.
    """
    dense = {i: g for i, g in enumerate(gradients) if isinstance(g, tf.Tensor)}
    sparse = {i: g for i, g in enumerate(gradients) if isinstance(g, tf.IndexedSlices)}
    if not dense and not sparse:
        return list(gradients)

    reduced: list[Gradient | None] = [None] * len(gradients)
    # TensorFlow adds up one dtype at a time; few models have gradients of two.
    for dtype in _wide_dtypes([*dense.values(), *sparse.values()]):
        pack = _Pack(dense, dtype)
        members = {i: g for i, g in sparse.items() if _wide(g.dtype) == dtype}
        rows = [_scale_rows(g, examples) for g in members.values()]
        total, *summed = sum_over_replicas([pack.flatten(examples), *rows])
        parts, all_examples = pack.restore(total, examples)
        for i, part in parts.items():
            reduced[i] = part
        for (i, g), rows_sum in zip(members.items(), summed, strict=True):
            reduced[i] = _unscale_rows(rows_sum, g.dtype, all_examples)
    return reduced


def dense_gradients(gradients: Sequence[Gradient | None]) -> list[Gradient | None]:
    """Returns gradients with the sparse ones made dense, rows of one index added up.

    A TPU's variables can be written whole and not row by row (`scatter_sub` of TPUStrategy's raises
    NotImplementedError), and its all-reduce makes a dense tensor of slices without a word.

    Args:
        gradients: This replica's gradients; `None` where a variable has none.
    """
    return [
        # Half precision would lose the rows that a frequent index has many of.
        tf.cast(tf.convert_to_tensor(tf.cast(g, _wide(g.dtype))), g.dtype)
        if isinstance(g, tf.IndexedSlices)
        else g
        for g in gradients
    ]


def _wide_dtypes(gradients: Sequence[Gradient]) -> list[tf.DType]:
    """The dtypes gradients travel in, in a fixed order."""
    return sorted({_wide(g.dtype) for g in gradients}, key=lambda dtype: dtype.name)


def _wide(dtype: tf.DType) -> tf.DType:
    return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype


class _Pack:
    """All dense gradients of one travelling dtype, and the number of examples behind them."""

    def __init__(self, dense: dict[int, tf.Tensor], dtype: tf.DType) -> None:
        self.dtype = dtype
        self.members = {i: g for i, g in dense.items() if _wide(g.dtype) == dtype}

    def flatten(self, examples: tf.Tensor | None) -> tf.Tensor:
        parts = [tf.reshape(tf.cast(g, self.dtype), [-1]) for g in self.members.values()]
        if examples is None:
            return tf.concat(parts, axis=0) if parts else tf.zeros([0], self.dtype)
        # The last element becomes the number of examples. One copy and one product, in all.
        pack = tf.concat([*parts, tf.ones([1], self.dtype)], axis=0)
        # An empty replica's gradient is 0 or NaN (a mean over nothing); multiply_no_nan makes it 0.
        return tf.math.multiply_no_nan(pack, tf.cast(examples, self.dtype))

    def restore(
        self, total: tf.Tensor, examples: tf.Tensor | None
    ) -> tuple[dict[int, tf.Tensor], tf.Tensor | None]:
        shapes = [tf.shape(g) for g in self.members.values()]
        sizes = [
            g.shape.num_elements() if g.shape.is_fully_defined() else tf.reduce_prod(shape)
            for g, shape in zip(self.members.values(), shapes, strict=True)
        ]
        all_examples = None
        if examples is None:
            parts = tf.split(total, sizes) if sizes else []
        else:
            *parts, counted = tf.split(total, [*sizes, 1])
            all_examples = counted[0]
            parts = [part / all_examples for part in parts]
        return {
            i: tf.cast(tf.reshape(part, g.shape if g.shape.is_fully_defined() else shape), g.dtype)
            for (i, g), part, shape in zip(self.members.items(), parts, shapes, strict=True)
        }, all_examples


def _scale_rows(slices: tf.IndexedSlices, examples: tf.Tensor | None) -> tf.IndexedSlices:
    values = tf.cast(slices.values, _wide(slices.dtype))
    if examples is not None:
        values = tf.math.multiply_no_nan(values, tf.cast(examples, values.dtype))
    return tf.IndexedSlices(values, slices.indices, slices.dense_shape)


def _unscale_rows(
    total: tf.IndexedSlices, dtype: tf.DType, all_examples: tf.Tensor | None
) -> tf.IndexedSlices:
    values = total.values
    if all_examples is not None:
        values = values / tf.cast(all_examples, values.dtype)
    return tf.IndexedSlices(tf.cast(values, dtype), total.indices, total.dense_shape)
