"""The batches of `tfscale verify`: taken from the user's data, as arrays that can be sent."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfscale.verify.user_model import WrongUsage, described

Batch = Any
"""An element of the data: `x`, `(x, y)`, `(x, y, None)` or a dict, whose parts have rows."""


@dataclass(frozen=True)
class SparsePart:
    """A `tf.SparseTensor` in canonical order, whose first dimension is the rows."""

    indices: np.ndarray
    values: np.ndarray
    dense_shape: tuple[int, ...]


@dataclass(frozen=True)
class SharedPart:
    """A part that belongs to all rows, declared with `tfscale.data.shared`."""

    part: Any


@dataclass(frozen=True)
class RaggedPart:
    """A `tf.RaggedTensor` whose first dimension is the rows."""

    flat_values: np.ndarray
    nested_row_splits: tuple[np.ndarray, ...]


def num_rows(batch: Batch) -> int:
    """Returns the number of rows of a batch. Shared parts and scalars have no rows.

    Raises:
        WrongUsage: If its parts have different numbers of rows, or no rows.
    """
    shapes = [_shape(part) for part in parts_of(batch)]
    sizes = {shape[0] or 0 for shape in shapes if shape}
    if len(sizes) != 1 or 0 in sizes:
        raise WrongUsage(
            "`data` must be batches whose parts have the same number of rows. Received: a batch "
            f"with parts of shapes {', '.join(map(str, shapes))}. Call `batch(n)` on an unbatched "
            "dataset; declare a part that belongs to all rows with `tfscale.data.shared`."
        )
    return sizes.pop()


def with_rows(batch: Batch, order: Sequence[int] | np.ndarray) -> Batch:
    """Returns the rows `order` of `batch`, in that order. Rows may be repeated.

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
    """Returns the batches with permuted rows, which gives the same sums with other rounding."""
    generator = np.random.default_rng(seed)
    return [with_rows(batch, generator.permutation(num_rows(batch))) for batch in batches]


def as_float64(batches: Sequence[Batch]) -> list[Batch]:
    """Returns the batches with all floats as float64, because a custom step may mix them."""

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
    """Returns `x` of a batch, like `keras.utils.unpack_x_y_sample_weight`."""
    return batch[0] if isinstance(batch, tuple) else batch


def mapped(function: Callable[[Any], Any], batch: Batch) -> Batch:
    """Returns `batch` with `function` applied to each part that is not None."""
    if isinstance(batch, tuple):
        return tuple(mapped(function, part) for part in batch)
    if isinstance(batch, dict):
        return {name: mapped(function, part) for name, part in batch.items()}
    return None if batch is None else function(batch)


def parts_of(batch: Batch) -> list[Any]:
    """Returns the parts of a batch that are not None, in order. A dict is sorted by name."""
    if isinstance(batch, tuple):
        return [part for each in batch for part in parts_of(each)]
    if isinstance(batch, dict):
        return [part for name in sorted(batch) for part in parts_of(batch[name])]
    return [] if batch is None else [batch]


def as_part(part: Any) -> Any:
    """Returns a tensor or an array as a part of a batch.

    Raises:
        WrongUsage: If it is neither an array nor a sparse or ragged tensor.
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
            "`data` must consist of arrays, or sparse or ragged tensors. Received: a part of type "
            f"{type(part).__name__}. Convert it, for example with np.asarray."
        )
    return array


def as_tensor(part: Any) -> Any:
    """Returns a part of a batch as a tensor."""
    import tensorflow as tf

    if isinstance(part, SharedPart):
        return as_tensor(part.part)
    if isinstance(part, SparsePart):
        return tf.SparseTensor(part.indices, part.values, part.dense_shape)
    if isinstance(part, RaggedPart):
        return tf.RaggedTensor.from_nested_row_splits(part.flat_values, part.nested_row_splits)
    return tf.convert_to_tensor(part)


def as_dataset(batches: Sequence[Batch]) -> Any:
    """Returns a `tf.data.Dataset` of the batches, which may differ in size.

    Dimensions that are equal in all batches are static.
    """
    import tensorflow as tf

    rows = [parts_of(batch) for batch in batches]
    dataset = tf.data.Dataset.from_generator(
        lambda: (tuple(as_tensor(part) for part in parts) for parts in rows),
        output_signature=tuple(_spec(parts) for parts in zip(*rows, strict=True)),
    )
    # With a map, because a generator cannot yield None.
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
    """Returns the type that a part has in all batches."""
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


def take_batches(data: Any, count: int, batch_size: int) -> list[Batch]:
    """Returns the first batches of `data`, in the form that `fit` passes to a step.

    For arrays, the last batch taken is the partial one, if there is one, because a strategy has to
    weight it.

    Args:
        data: Arrays: `x`, a dict of them, `(x,)`, `(x, y)` or `(x, y, sample_weight)`, which may be
            nested; a batched `tf.data.Dataset`; a `keras.utils.PyDataset`; or a generator of
            batches.
        count: Largest number of batches. Positive.
        batch_size: Rows of a batch of arrays. Positive.

    Raises:
        WrongUsage: If `data` is something else, or its parts have different numbers of rows.
    """
    import keras
    import tensorflow as tf

    if isinstance(data, tf.data.Dataset):
        batches = [as_arrays(element) for element in data.take(count)]
    elif isinstance(data, keras.utils.PyDataset):
        length = data.num_batches
        numbers = range(count if length is None else min(count, length))
        batches = [as_arrays(data[i]) for i in numbers]
    elif isinstance(data, Iterator):
        batches = [as_arrays(element) for _, element in zip(range(count), data, strict=False)]
    elif isinstance(data, (tuple, list)) and 1 <= len(data) <= 3:
        # As `fit(*data)` does: a bare `x` if there is nothing else.
        arrays = (as_arrays(part) for part in data)
        batches = _cut(keras.utils.pack_x_y_sample_weight(*arrays), count, batch_size)
    elif isinstance(data, dict) or hasattr(data, "__array__"):
        batches = _cut(as_arrays(data), count, batch_size)
    else:
        raise WrongUsage(
            "`data` must be arrays: `x`, `(x, y)` or `(x, y, sample_weight)`, a batched "
            "tf.data.Dataset, a keras.utils.PyDataset or a generator of batches. Received: "
            f"{described(data)}."
        )
    if not batches:
        raise WrongUsage("`data` must have at least one batch. Received: none. Check its source.")
    for batch in batches:
        num_rows(batch)
    return batches


def as_arrays(element: Any) -> Batch:
    """Returns an element of a dataset with tensors as arrays and lists as tuples.

    Raises:
        WrongUsage: If a part is neither an array nor a sparse or ragged tensor.
    """
    if isinstance(element, dict):
        return {name: as_arrays(value) for name, value in element.items()}
    if isinstance(element, (tuple, list)):
        return tuple(as_arrays(value) for value in element)
    return None if element is None else as_part(element)


def _cut(arrays: Batch, count: int, batch_size: int) -> list[Batch]:
    rows = num_rows(arrays)
    starts = list(range(0, rows, batch_size))
    if len(starts) > count:
        last = starts[-1] if rows % batch_size else starts[count - 1]
        starts = [*starts[: count - 1], last]
    return [with_rows(arrays, range(i, min(rows, i + batch_size))) for i in starts]


def digest(parts: Any) -> str:
    """Returns a hash of nested arrays, by which workers compare weights and batches.

    Args:
        parts: Arrays and None, nested in tuples, lists, dicts and dataclasses.

    Example:
        >>> digest([{"a": 1, "b": None}]) == digest([{"b": None, "a": 1}])
        True
    """
    found = hashlib.sha256()

    def add(part: Any) -> None:
        if dataclasses.is_dataclass(part):
            part = [getattr(part, field.name) for field in dataclasses.fields(part)]
        elif isinstance(part, dict):
            part = [part[name] for name in sorted(part)]
        if isinstance(part, (tuple, list)):
            for each in part:
                add(each)
        elif part is None or isinstance(part, int):
            found.update(repr(part).encode())
        else:
            found.update(repr(part.tolist()).encode() if part.dtype == object else part.tobytes())

    add(parts)
    return found.hexdigest()
