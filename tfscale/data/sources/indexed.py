"""Anything with `__len__` and `__getitem__`, as a source."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import number, whole_number
from tfscale.data.sources.examples import (
    Examples,
    Part,
    as_array,
    batch_rows,
    checked_batch,
    dtype_name,
    is_structure,
    leaves,
)
from tfscale.data.sources.reading import ReadSource
from tfscale.data.sources.reading_processes import ReadingProcesses


def indexed(
    dataset: Any,
    *,
    read_workers: int = 0,
    element_spec: Any = None,
    deadline_seconds: float = 600.0,
) -> ReadSource:
    """Returns a dataset with `__len__` and `__getitem__` as a source.

    For instance a Hugging Face `Dataset`, a data source or `MapDataset` of grain, a torch
    `Dataset`, a `keras.utils.PyDataset`, or a class of the user. `dataset[i]` must give the same
    example each time. An example is arrays, numbers and strings, in tuples and dicts; a list of
    numbers or strings is an array. Torch tensors become arrays.

    A `Dataset` of Hugging Face is read with one list of indices for a batch, and a dataset with
    `__getitems__` with one call. Item i of a `PyDataset` is batch i: the examples are the rows, and
    all batches but the last must have the same size. Read it with
    `shuffle=BlockShuffle(block=batch_size)` or in order: each batch is then made once, not once for
    each of its rows.

    Args:
        dataset: The dataset. `input_pipeline` accepts it directly, too.
        read_workers: Processes that read, each a part of every batch. 0 reads in threads of this
            process, which is best if `dataset[i]` takes little time in Python. Processes start at
            the first batch, get a pickled copy of the dataset, and end with the program or
            `source.reader.close()`. They see no GPU, and do not import TensorFlow unless the
            dataset's module does. If the dataset's class is in the program itself, the program
            must keep its training under `if __name__ == "__main__":`.
        element_spec: Structure of `tf.TensorSpec` of one example. The first dimension of a part may
            be None, for examples of different lengths. None: the spec of example 0, which all
            others must have.
        deadline_seconds: Most time that a process may take for its part of a batch. Positive.

    Raises:
        ValueError: If `dataset` is empty or has no length, example 0 is not as described, or it is
            not picklable for `read_workers`. A step that reads an example of another shape or type
            raises `tf.errors.InvalidArgumentError`, which names its index.

    Example:
        >>> class Squares:
        ...     def __len__(self):
        ...         return 5
        ...     def __getitem__(self, index):
        ...         return {"x": index, "y": index**2}
        >>> source = indexed(Squares())
        >>> source.take(tf.constant([3, 4], tf.int64))["y"].numpy()
        array([ 9, 16])
    """
    whole_number("read_workers", read_workers, at_least=0, cure="Use 0 to read in this process.")
    number("deadline_seconds", deadline_seconds, "positive", lambda seconds: seconds > 0)
    return ReadSource(IndexedReader(dataset, read_workers, element_spec, deadline_seconds))


def is_indexed(dataset: Any) -> bool:
    """Returns whether `indexed` reads a dataset that is neither an array nor a structure."""
    if isinstance(dataset, (str, bytes, Mapping, tuple, list, tf.Tensor, tf.data.Dataset)):
        return False
    if hasattr(dataset, "__array__") or isinstance(dataset, tf.RaggedTensor | tf.SparseTensor):
        return False
    return hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")


class IndexedReader:
    """Reads a dataset with `__len__` and `__getitem__`: see `Reader` and `indexed`."""

    def __init__(
        self, dataset: Any, read_workers: int, element_spec: Any, deadline_seconds: float
    ) -> None:
        """See `indexed`."""
        length = _length(dataset)
        kind, batch_size, self.num_examples = "items", 1, length
        if isinstance(dataset, keras.utils.PyDataset):
            batch = checked_batch(dataset[0], 0)
            kind, batch_size = "batches", batch_rows(batch)
            last = batch_rows(checked_batch(dataset[length - 1], length - 1))
            self.num_examples = (length - 1) * batch_size + last
            example = tf.nest.map_structure(lambda part: part[0], batch)
        else:
            if _is_hugging_face(dataset):
                kind = "columns"
            example = dataset[0]
        self.element_spec, parts = _spec(example, element_spec, _lengths_vary(dataset))
        self.fingerprint = _fingerprint(dataset, self.num_examples, parts, example)
        arguments = (kind, batch_size)
        self._examples = Examples(dataset, *arguments, parts)
        self._examples.read(np.zeros(1, np.int64))
        self.read_workers = read_workers
        self._processes = None
        if read_workers:
            plain = [(part.path, part.shape, part.dtype, part.is_cast) for part in parts]
            self._processes = ReadingProcesses(
                dataset, (*arguments, plain), read_workers, deadline_seconds
            )

    def read(self, indices: np.ndarray) -> Any:
        """Returns the examples at `indices`, int64 [n]."""
        if self._processes is None or not len(indices):
            columns = self._examples.read(indices)
        else:
            pieces = self._processes.read(indices)
            columns = [
                np.concatenate(part)
                if isinstance(part[0], np.ndarray)
                else list(itertools.chain(*part))
                for part in zip(*pieces, strict=True)
            ]
        return tf.nest.pack_sequence_as(self.element_spec, columns)

    def close(self) -> None:
        """Ends the processes that read. The next read starts them again."""
        if self._processes is not None:
            self._processes.close()


def _length(dataset: Any) -> int:
    try:
        length = len(dataset)
    except TypeError as error:
        raise ValueError(
            "`dataset` must have `__len__` and `__getitem__`. Received: "
            f"{type(dataset).__module__}.{type(dataset).__qualname__} ({error}). Convert a stream "
            "to a tf.data.Dataset with a known cardinality."
        ) from error
    if length < 1 or not hasattr(dataset, "__getitem__"):
        raise ValueError(
            "`dataset` must have `__getitem__` and at least one example. Received: "
            f"{type(dataset).__module__}.{type(dataset).__qualname__} of length {length}. Check "
            "its files and filters."
        )
    return int(length)


def _is_hugging_face(dataset: Any) -> bool:
    is_theirs = type(dataset).__module__.partition(".")[0] == "datasets"
    return is_theirs and hasattr(dataset, "features") and hasattr(dataset, "column_names")


def _lengths_vary(dataset: Any) -> dict[str, str]:
    """Returns the columns of a Hugging Face `Dataset` whose lists have no fixed length.

    Each with the name of the type that a list has as an array, even if it is empty.
    """
    if not _is_hugging_face(dataset):
        return {}
    varying = {}
    for name, feature in dict(dataset.features).items():
        if getattr(feature, "length", 0) == -1:
            dtype = str(getattr(feature.feature, "dtype", ""))
            kinds = {"i": "int64", "u": "int64", "f": "float64", "b": "bool", "s": "string"}
            varying[f"[{name!r}]"] = kinds.get(dtype[:1], "float64")
    return varying


def _spec(example: Any, element_spec: Any, varying: dict[str, str]) -> tuple[Any, list[Part]]:
    """Returns the spec of an example, and what its parts must be."""
    if element_spec is not None:
        specs = leaves(element_spec)
        parts = [_part_of(path, spec) for path, spec in specs]
        return _structure(element_spec), parts
    parts = []
    for path, value in leaves(example):
        array = as_array(value, f"example 0{path}")
        shape: tuple[int | None, ...] = array.shape
        if path in varying:
            shape = (None, *shape[1:])
        dtype = varying.get(path, "") if isinstance(value, list) and not value else ""
        parts.append(Part(path, shape, dtype or dtype_name(array)))
    specs = [tf.TensorSpec(part.shape, part.dtype) for part in parts]
    return tf.nest.pack_sequence_as(_structure(example), specs), parts


def _part_of(path: str, spec: Any) -> Part:
    is_spec = isinstance(spec, tf.TensorSpec) and spec.shape.rank is not None
    if not is_spec or None in tuple(spec.shape)[1:]:
        raise ValueError(
            "`element_spec` must be a structure of tf.TensorSpec, of which only the first "
            f"dimension may be None. Received: {spec!r}. Example: tf.TensorSpec([None], tf.int32)."
        )
    name = "string" if spec.dtype == tf.string else np.dtype(spec.dtype.as_numpy_dtype).name
    return Part(path, tuple(spec.shape), name, is_cast=True)


def _structure(example: Any) -> Any:
    """Returns an example with every part replaced by None, as a structure of `tf.nest`."""
    if isinstance(example, Mapping):
        return {key: _structure(part) for key, part in example.items()}
    if isinstance(example, tuple) or is_structure(example):
        parts = [_structure(part) for part in example]
        return type(example)(*parts) if hasattr(example, "_fields") else tuple(parts)
    return example if isinstance(example, tf.TensorSpec) else 0


def _fingerprint(dataset: Any, num_examples: int, parts: list[Part], example: Any) -> str:
    """Returns what differs if the dataset does, from its class, length and first example."""
    digest = hashlib.sha256(repr(parts).encode())
    # Hugging Face's hash of how the dataset was made.
    digest.update(str(getattr(dataset, "_fingerprint", "")).encode())
    for path, value in leaves(example):
        array = as_array(value, f"example 0{path}")
        digest.update(repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes())
    name = type(dataset).__qualname__
    return f"{name} of {num_examples} examples, {digest.hexdigest()[:16]}"
