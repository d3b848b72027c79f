"""Batches as `tfscale verify` keeps them: what a dataset yields, as arrays that can be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfscale.verify.user_model import WrongUsage

Batch = Any
"""An element as the data yield it: `x`, `(x, y)`, `(x, y, None)`, a dict, of parts with rows."""


@dataclass(frozen=True)
class SparsePart:
    """A `tf.SparseTensor` whose first dimension is the rows, in order."""

    indices: np.ndarray
    values: np.ndarray
    dense_shape: tuple[int, ...]


@dataclass(frozen=True)
class SharedPart:
    """A part that all rows share, declared with `tfscale.data.shared`."""

    part: Any


@dataclass(frozen=True)
class RaggedPart:
    """A `tf.RaggedTensor` whose first dimension is the rows."""

    flat_values: np.ndarray
    nested_row_splits: tuple[np.ndarray, ...]


def num_rows(batch: Batch) -> int:
    """Returns the rows of a batch; shared parts, and those without a dimension, have none.

    Raises:
        WrongUsage: If its parts hold different numbers of rows, or none.
    """
    shapes = [_shape(part) for part in parts_of(batch)]
    sizes = {shape[0] or 0 for shape in shapes if shape}
    if len(sizes) != 1 or 0 in sizes:
        raise WrongUsage(
            "`data` must hold parts of equally many rows, in batches. Received: a batch with parts "
            f"of shapes {', '.join(map(str, shapes))}. Batch a dataset with `.batch(n)`; declare "
            "a part that all rows share with `tfscale.data.shared`."
        )
    return sizes.pop()


def with_rows(batch: Batch, order: Sequence[int] | np.ndarray) -> Batch:
    """Returns a batch of the rows `order` of `batch`, in that order; a row may come twice.

    Example:
        >>> with_rows({"x": np.array([1, 2, 3])}, [2, 0, 0])
        {'x': array([3, 1, 1])}
    """
    rows = np.asarray(order, np.int64)

    def taken(part: Any) -> Any:
        if isinstance(part, SharedPart):
            return part
        if isinstance(part, SparsePart):
            return _sparse_rows(part, rows)
        if isinstance(part, RaggedPart):
            import tensorflow as tf

            return as_part(tf.gather(as_tensor(part), rows))
        return part[rows] if part.ndim else part

    return mapped(taken, batch)


def permuted(batches: Sequence[Batch], seed: int) -> list[Batch]:
    """Returns the batches with the rows of each in another order: the same sums, other rounding."""
    generator = np.random.default_rng(seed)
    return [with_rows(batch, generator.permutation(num_rows(batch))) for batch in batches]


def as_float64(batches: Sequence[Batch]) -> list[Batch]:
    """Returns the batches with float64 for other floats: a step of the user's own may mix them."""

    def cast(part: Any) -> Any:
        if isinstance(part, SharedPart):
            return SharedPart(cast(part.part))
        if isinstance(part, SparsePart):
            return SparsePart(part.indices, cast(part.values), part.dense_shape)
        if isinstance(part, RaggedPart):
            return RaggedPart(cast(part.flat_values), part.nested_row_splits)
        return part.astype(np.float64) if part.dtype.kind == "f" else part

    return [mapped(cast, batch) for batch in batches]


def inputs_of(batch: Batch) -> Any:
    """Returns `x` of a batch, as `keras.utils.unpack_x_y_sample_weight` finds it."""
    return batch[0] if isinstance(batch, tuple) else batch


def mapped(function: Callable[[Any], Any], batch: Batch) -> Batch:
    """Returns `batch` with `function` applied to each part that is not None."""
    if isinstance(batch, tuple):
        return tuple(mapped(function, part) for part in batch)
    if isinstance(batch, dict):
        return {name: mapped(function, part) for name, part in batch.items()}
    return None if batch is None else function(batch)


def parts_of(batch: Batch) -> list[Any]:
    """Returns the parts of a batch that are not None, in order; those of a dict by name."""
    if isinstance(batch, tuple):
        return [part for each in batch for part in parts_of(each)]
    if isinstance(batch, dict):
        return [part for name in sorted(batch) for part in parts_of(batch[name])]
    return [] if batch is None else [batch]


def as_part(part: Any) -> Any:
    """Returns a tensor or an array as a part of a batch.

    Raises:
        WrongUsage: If it is no array, and no sparse or ragged tensor.
    """
    import tensorflow as tf

    from strategies.extension import Shared

    if isinstance(part, Shared):
        return SharedPart(as_part(part.value))
    if isinstance(part, tf.SparseTensor):
        part = tf.sparse.reorder(part)
        shape = tuple(int(size) for size in part.dense_shape)
        return SparsePart(part.indices.numpy(), part.values.numpy(), shape)
    if isinstance(part, tf.RaggedTensor):
        splits = tuple(each.numpy() for each in part.nested_row_splits)
        return RaggedPart(part.flat_values.numpy(), splits)
    try:
        array = np.asarray(part)
    except (TypeError, ValueError, NotImplementedError):
        array = np.asarray(None)
    is_text = array.dtype == object and all(isinstance(v, (str, bytes)) for v in array.flat)
    if array.dtype == object and not is_text:
        raise WrongUsage(
            "`data` must hold arrays, or sparse or ragged tensors. Received: a part of type "
            f"{type(part).__name__}. Convert it, for example by np.asarray."
        )
    return array


def as_tensor(part: Any) -> Any:
    """Returns the tensor that a part of a batch stands for."""
    import tensorflow as tf

    if isinstance(part, SharedPart):
        return as_tensor(part.part)
    if isinstance(part, SparsePart):
        return tf.SparseTensor(part.indices, part.values, part.dense_shape)
    if isinstance(part, RaggedPart):
        return tf.RaggedTensor.from_nested_row_splits(part.flat_values, part.nested_row_splits)
    return tf.convert_to_tensor(part)


def as_dataset(batches: Sequence[Batch]) -> Any:
    """Returns a `tf.data.Dataset` of the batches as they are, uneven ones included.

    Dimensions in which all batches agree are static.
    """
    import tensorflow as tf

    rows = [parts_of(batch) for batch in batches]
    dataset = tf.data.Dataset.from_generator(
        lambda: (tuple(as_tensor(part) for part in parts) for parts in rows),
        output_signature=tuple(_spec(parts) for parts in zip(*rows, strict=True)),
    )
    # By a map, since a generator cannot yield None.
    dataset = dataset.map(lambda *parts: _like(batches[0], iter(parts)))
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))


def _like(batch: Batch, parts: Iterator[Any]) -> Any:
    if isinstance(batch, tuple):
        return tuple(_like(part, parts) for part in batch)
    if isinstance(batch, dict):
        by_name = {name: _like(batch[name], parts) for name in sorted(batch)}
        return {name: by_name[name] for name in batch}
    if isinstance(batch, SharedPart):
        from tfscale.data.shared import shared

        return shared(next(parts))
    return None if batch is None else next(parts)


def _spec(parts: Sequence[Any]) -> Any:
    """The type of a part of all batches."""
    import tensorflow as tf

    if isinstance(parts[0], SharedPart):
        return _spec([each.part for each in parts])
    shapes = [_shape(part) for part in parts]
    shape = [sizes[0] if len({*sizes}) == 1 else None for sizes in zip(*shapes, strict=True)]
    first = parts[0]
    if isinstance(first, SparsePart):
        return tf.SparseTensorSpec(shape, tf.as_dtype(first.values.dtype))
    if isinstance(first, RaggedPart):
        rank = len(first.nested_row_splits)
        return tf.RaggedTensorSpec(shape, tf.as_dtype(first.flat_values.dtype), rank)
    is_text = first.dtype.kind in "OUS"
    return tf.TensorSpec(shape, tf.string if is_text else tf.as_dtype(first.dtype))


def _shape(part: Any) -> tuple[int | None, ...]:
    if isinstance(part, SharedPart):
        return ()
    if isinstance(part, SparsePart):
        return part.dense_shape
    if isinstance(part, RaggedPart):
        rows = len(part.nested_row_splits[0]) - 1
        return (rows, *[None] * len(part.nested_row_splits), *part.flat_values.shape[1:])
    return part.shape  # type: ignore[no-any-return]


def _sparse_rows(part: SparsePart, rows: np.ndarray) -> SparsePart:
    starts = np.searchsorted(part.indices[:, 0], np.arange(part.dense_shape[0] + 1))
    kept = [np.arange(starts[row], starts[row + 1]) for row in rows]
    indices = part.indices[np.concatenate(kept)].copy()
    indices[:, 0] = np.repeat(np.arange(len(rows)), [len(each) for each in kept])
    values = part.values[np.concatenate(kept)]
    return SparsePart(indices, values, (len(rows), *part.dense_shape[1:]))
