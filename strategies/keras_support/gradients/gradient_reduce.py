"""All gradients of a step are reduced together, weighted by the examples behind them.

A loss is a mean over examples plus terms that do not depend on the data (regularizers). With n_r
examples on replica r and n in all, replica r's gradient is g_r = grad mean_r + grad reg, and what
one device would compute on the whole batch is

    sum_r (n_r / n) grad mean_r + grad reg  =  sum_r n_r g_r / n

so n_r g_r is summed, n_r is summed in the same pack, and the quotient is exact for any split of the
batch, also with an empty replica.

Replicas of one process have one pack for each dtype. Workers have packs of 16 MiB, those of the
last layers first, and n_r is in the first of them: one pack of everything would need the memory of
all gradients twice more, and the ring as much again for what travels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import tensorflow as tf

from strategies.keras_support.context.packs import Turns, packs
from strategies.keras_support.context.step_context import sum_over_replicas
from strategies.keras_support.patching.ownership import is_multi_worker

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices


@dataclass(frozen=True)
class Reduced:
    """What a reduction over the replicas returns, the same on all of them.

    Attributes:
        gradients: Means over all examples, in the given order and dtypes.
        sums: Plain sums.
        examples: Scalar, the examples of the global batch; None where none were given.
    """

    gradients: list[Gradient | None]
    sums: list[tf.Tensor]
    examples: tf.Tensor | None


def reduce_gradients(
    gradients: Sequence[Gradient | None], examples: tf.Tensor | None
) -> list[Gradient | None]:
    """Reduces every gradient over all replicas, in replica context; see `reduce_pack`."""
    return reduce_pack(gradients, examples).gradients


def reduce_pack(
    gradients: Sequence[Gradient | None],
    examples: tf.Tensor | None,
    sums: Sequence[tf.Tensor] = (),
) -> Reduced:
    """Reduces gradients, and adds up other values, in packs of one dtype.

    Dense gradients travel as flat tensors, half precision as float32, so that a
    sum of many replicas cannot overflow. Sparse gradients (`tf.IndexedSlices`, an embedding's) are
    gathered, rows in the order of the replicas.

    Args:
        gradients: This replica's gradients; `None` where a variable has none. The same pattern of
            `None`, dense and sparse on all replicas.
        examples: int32 scalar, the examples behind this replica's gradients, or None for a plain
            sum (a user's training loop, which weighs by itself).
        sums: What is to be added up without weights.
    """
    dense = {i: g for i, g in enumerate(gradients) if isinstance(g, tf.Tensor)}
    sparse = {i: g for i, g in enumerate(gradients) if isinstance(g, tf.IndexedSlices)}
    reduced: list[Gradient | None] = [None] * len(gradients)
    totals: list[tf.Tensor] = [None] * len(sums)
    all_examples = None
    # TensorFlow adds up one dtype at a time; few models have gradients of two.
    for dtype in _wide_dtypes([*dense.values(), *sparse.values(), *sums]):
        first, *others = _in_packs(dense, dtype)
        pack, turns = _Pack(first, sums, dtype), Turns()
        members = {i: g for i, g in sparse.items() if _wide(g.dtype) == dtype}
        rows = [_scale_rows(g, examples) for g in members.values()]
        total, *summed = sum_over_replicas([pack.flatten(examples), *rows])
        turns.ends(total)
        parts, own_totals, counted = pack.restore(total, examples)
        for other in others:
            parts |= _Pack(other, (), dtype).mean(examples, counted, turns)
        all_examples = counted if all_examples is None else all_examples
        for i, part in parts.items():
            reduced[i] = part
        for i, part in own_totals.items():
            totals[i] = part
        for (i, g), rows_sum in zip(members.items(), summed, strict=True):
            reduced[i] = _unscale_rows(rows_sum, g.dtype, counted)
    return Reduced(reduced, totals, all_examples)


def dense_gradients(gradients: Sequence[Gradient | None]) -> list[Gradient | None]:
    """Returns gradients with the sparse ones made dense, rows of one index added up.

    A TPU's variables can be written whole and not row by row (`scatter_sub` of TPUStrategy's raises
    NotImplementedError), and its all-reduce silently makes a dense tensor of slices.

    Args:
        gradients: This replica's gradients; `None` where a variable has none.
    """
    return [
        # Half precision would lose rows when an index occurs often.
        tf.cast(tf.convert_to_tensor(tf.cast(g, _wide(g.dtype))), g.dtype)
        if isinstance(g, tf.IndexedSlices)
        else g
        for g in gradients
    ]


def _wide_dtypes(gradients: Sequence[Gradient]) -> list[tf.DType]:
    """The dtypes gradients travel in, in a fixed order."""
    return sorted({_wide(g.dtype) for g in gradients}, key=lambda dtype: dtype.name)


def _wide(dtype: tf.DType) -> tf.DType:
    dtype = tf.as_dtype(dtype)
    if dtype.is_integer or dtype.is_bool:
        return tf.int64
    return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype


def _in_packs(dense: dict[int, tf.Tensor], dtype: tf.DType) -> list[dict[int, tf.Tensor]]:
    """Returns the gradients that travel in a dtype, in packs; the first one may be empty."""
    members = {i: g for i, g in dense.items() if _wide(g.dtype) == dtype}
    if not is_multi_worker(tf.distribute.get_strategy()):
        return [members]
    places = list(reversed(members))  # the last layers' are ready first
    values = [tf.TensorSpec(members[i].shape, dtype) for i in places]
    found = [[places[at] for at in pack] for pack in packs(values, range(len(places)))]
    return [{i: members[i] for i in pack} for pack in found] or [{}]


class _Pack:
    """What travels together in one dtype: weighted gradients, their examples, and plain sums."""

    def __init__(
        self, members: dict[int, tf.Tensor], sums: Sequence[tf.Tensor], dtype: tf.DType
    ) -> None:
        self.dtype = dtype
        self.members = members
        self.sums = {i: s for i, s in enumerate(sums) if _wide(s.dtype) == dtype}

    def flatten(self, examples: tf.Tensor | None) -> tf.Tensor:
        parts = [tf.reshape(tf.cast(g, self.dtype), [-1]) for g in self.members.values()]
        summed = [tf.reshape(tf.cast(s, self.dtype), [-1]) for s in self.sums.values()]
        if examples is None:
            parts += summed
            return tf.concat(parts, axis=0) if parts else tf.zeros([0], self.dtype)
        # The last element becomes the number of examples. One copy and one product, in all.
        pack = tf.concat([*parts, tf.ones([1], self.dtype)], axis=0)
        # An empty replica's gradient is 0 or NaN (a mean over nothing); multiply_no_nan makes it 0.
        pack = _times(pack, tf.cast(examples, self.dtype))
        return tf.concat([pack, *summed], axis=0) if summed else pack

    def mean(
        self, examples: tf.Tensor | None, all_examples: tf.Tensor | None, turns: Turns
    ) -> dict[int, tf.Tensor]:
        """Reduces a pack of gradients, whose examples have travelled in another one."""
        given = list(self.members.values())
        with turns.next():
            flat = tf.concat([tf.reshape(tf.cast(g, self.dtype), [-1]) for g in given], axis=0)
            if examples is not None:
                flat = _times(flat, tf.cast(examples, self.dtype))
        total = sum_over_replicas(flat)
        turns.ends(total)
        if all_examples is not None:
            total = _per_example(total, all_examples)
        parts = tf.split(total, [_size(g) for g in given])
        return dict(zip(self.members, _alike(parts, given), strict=True))

    def restore(
        self, total: tf.Tensor, examples: tf.Tensor | None
    ) -> tuple[dict[int, tf.Tensor], dict[int, tf.Tensor], tf.Tensor | None]:
        given = [*self.members.values(), *self.sums.values()]
        sizes = [_size(g) for g in given]
        count, all_examples = len(self.members), None
        if examples is None:
            parts = tf.split(total, sizes) if sizes else []
        else:
            parts = tf.split(total, [*sizes[:count], 1, *sizes[count:]])
            all_examples = parts.pop(count)[0]
            # No replica may have an example in one of several microbatches.
            parts[:count] = [_per_example(part, all_examples) for part in parts[:count]]
        shaped = _alike(parts, given)
        return (
            dict(zip(self.members, shaped[:count], strict=True)),
            dict(zip(self.sums, shaped[count:], strict=True)),
            all_examples,
        )


def _alike(parts: Sequence[tf.Tensor], given: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Returns flat parts in the shapes and dtypes of other tensors."""
    return [
        tf.cast(tf.reshape(part, _shape(g)), g.dtype) for g, part in zip(given, parts, strict=True)
    ]


def _size(tensor: tf.Tensor) -> Any:
    return tensor.shape.num_elements() if tensor.shape.is_fully_defined() else tf.size(tensor)


def _times(pack: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return pack * weight if pack.dtype.is_integer else tf.math.multiply_no_nan(pack, weight)


def _per_example(total: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    if total.dtype.is_integer:
        return total / examples
    return tf.math.divide_no_nan(total, examples)


def _shape(tensor: tf.Tensor) -> tf.Tensor | tf.TensorShape:
    return tensor.shape if tensor.shape.is_fully_defined() else tf.shape(tensor)


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
