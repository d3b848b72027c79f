"""The first batches of what the user's function returns beside the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfscale.verify.batches import Batch, as_part, num_rows, with_rows
from tfscale.verify.user_model import WrongUsage, described


def take_batches(data: Any, count: int, batch_size: int) -> list[Batch]:
    """Returns the first batches of `data`, in the form in which `fit` hands them to a step.

    Of arrays the last batch taken is the one that is not full, where there is one: it is what a
    strategy has to weigh.

    Args:
        data: Arrays: `x`, a dict of them, `(x,)`, `(x, y)` or `(x, y, sample_weight)`, which may be
            nested; a batched `tf.data.Dataset`; a `keras.utils.PyDataset`; or a generator of
            batches.
        count: Batches to take at most. Positive.
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
        # What `fit(*data)` hands on: a bare `x` where there is nothing else.
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
        raise WrongUsage("`data` must hold at least one batch. Received: none.")
    for batch in batches:
        num_rows(batch)
    return batches


def as_arrays(element: Any) -> Batch:
    """Returns an element of a dataset with arrays for tensors, lists as tuples.

    Raises:
        WrongUsage: If a part of it is no array, and no sparse or ragged tensor.
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
