"""Examples of a Python dataset as arrays, in this process or in one that only reads.

Imports neither TensorFlow nor tfscale: a process that reads runs this file (see `serve`).
"""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import queue
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

_CACHED_BATCHES = 8


@dataclass(frozen=True)
class Part:
    """One array of an example.

    Attributes:
        path: Where it is in the example, such as "['label']"; empty if it is the example.
        shape: Its shape; the first dimension may be None.
        dtype: Name of its NumPy type, or "string".
        is_cast: Whether values are converted to the type, and not only compared with it.
    """

    path: str
    shape: tuple[int | None, ...]
    dtype: str
    is_cast: bool = False


class WrongExampleError(ValueError):
    """An example differs from what the others are, or cannot be an example."""


def leaves(example: Any, path: str = "") -> list[tuple[str, Any]]:
    """Returns the parts of an example with their paths, in the order of `tf.nest`.

    Dicts and tuples are structure, and a list of arrays too. A list of numbers or strings is data.
    """
    if isinstance(example, Mapping):
        keys = sorted(example)
        return [leaf for key in keys for leaf in leaves(example[key], f"{path}[{key!r}]")]
    if isinstance(example, tuple) or is_structure(example):
        parts = enumerate(example)
        return [leaf for index, part in parts for leaf in leaves(part, f"{path}[{index}]")]
    return [(path, example)]


def is_structure(value: Any) -> bool:
    """Returns whether a list is a structure, and not numbers or strings."""
    if not isinstance(value, list) or not value:
        return False
    return any(hasattr(part, "__array__") or isinstance(part, (Mapping, tuple)) for part in value)


def as_array(value: Any, where: str) -> np.ndarray:
    """Returns a value of an example as an array; strings are `object` with `bytes`.

    Raises:
        WrongExampleError: If it is None or another object that is no array.
    """
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever a user's class raises
        raise WrongExampleError(
            f"`dataset` must have examples of arrays. Received: {where} of type "
            f"{type(value).__qualname__} ({error}). Convert it in __getitem__."
        ) from error
    if array.dtype.kind in "US":
        return np.array([_as_bytes(text) for text in array.ravel()], object).reshape(array.shape)
    if array.dtype.kind == "O":
        if all(isinstance(text, (str, bytes)) for text in array.ravel()):
            texts = [_as_bytes(text) for text in array.ravel()]
            return np.array(texts, object).reshape(array.shape)
        what = "None" if value is None else f"a {type(value).__qualname__}"
        raise WrongExampleError(
            "`dataset` must have examples of arrays, numbers and strings, in tuples or dicts. "
            f"Received: {where} with {what} that is none of them. Convert or remove it in "
            "__getitem__."
        )
    return array


def dtype_name(array: np.ndarray) -> str:
    """Returns the `Part.dtype` of an array."""
    return "string" if array.dtype.kind == "O" else array.dtype.newbyteorder("=").name


class Examples:
    """Reads examples of a dataset with `__len__` and `__getitem__`, and checks each.

    Args:
        dataset: The dataset.
        kind: "items", or "columns" if a list of indices gives a dict of columns, or "batches" if
            item i is batch i.
        batch_size: Rows of a batch, for "batches".
        parts: What each example must be.
    """

    def __init__(self, dataset: Any, kind: str, batch_size: int, parts: Sequence[Part]) -> None:
        self._dataset, self._kind, self._parts = dataset, kind, list(parts)
        self._batch_size = batch_size
        self._batches: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def read(self, indices: np.ndarray) -> list[Any]:
        """Returns each part of the examples at `indices`, int64 [n].

        Returns:
            An array [n, *shape] for a part of known shape, else a list of n arrays.
        """
        if not len(indices):
            return [_joined([], part) for part in self._parts]
        if self._kind == "columns":
            return self._columns(indices)
        numbers = [int(index) for index in indices]
        examples = self._rows(numbers) if self._kind == "batches" else self._items(numbers)
        columns: list[list[np.ndarray]] = [[] for _ in self._parts]
        for index, example in zip(numbers, examples, strict=True):
            found = leaves(example)
            if [path for path, _ in found] != [part.path for part in self._parts]:
                raise WrongExampleError(
                    "`dataset` must have examples of one structure. Received: example "
                    f"{index} with {_paths(path for path, _ in found)}, where the first has "
                    f"{_paths(part.path for part in self._parts)}. Return the same in __getitem__."
                )
            for column, (_, value), part in zip(columns, found, self._parts, strict=True):
                column.append(_checked(value, part, index))
        return [_joined(c, part) for c, part in zip(columns, self._parts, strict=True)]

    def _items(self, indices: list[int]) -> Sequence[Any]:
        several = getattr(self._dataset, "__getitems__", None)
        if several is None:
            return [self._dataset[index] for index in indices]
        examples = list(several(indices))
        if len(examples) != len(indices):
            raise WrongExampleError(
                f"`dataset` must return {len(indices)} examples from __getitems__ for as many "
                f"indices. Received: {len(examples)}. Check its __getitems__."
            )
        return examples

    def _columns(self, indices: np.ndarray) -> list[Any]:
        """Reads all columns at once: a row at a time is about 20 times slower in `datasets`."""
        columns = self._dataset[[int(index) for index in indices]]
        result = []
        for part, (_, column) in zip(self._parts, leaves_of_columns(columns), strict=True):
            array = column if isinstance(column, np.ndarray) else None
            if array is not None and array.dtype.kind not in "OUS" and None not in part.shape:
                fits = array.shape[1:] == part.shape and dtype_name(array) == part.dtype
                if fits:
                    result.append(array)
                    continue
            rows = [_checked(v, part, int(i)) for v, i in zip(column, indices, strict=True)]
            result.append(_joined(rows, part))
        return result

    def _rows(self, indices: list[int]) -> list[Any]:
        size = self._batch_size
        batches = {number: self._batch(number) for number in {i // size for i in indices}}
        return [_row(batches[index // size], index % size) for index in indices]

    def _batch(self, number: int) -> Any:
        with self._lock:
            if number in self._batches:
                self._batches.move_to_end(number)
                return self._batches[number]
        batch = checked_batch(self._dataset[number], number)
        rows, is_last = batch_rows(batch), number == len(self._dataset) - 1
        if not is_last and rows != self._batch_size:
            raise WrongExampleError(
                "`dataset` must have batches of one size, except the last. Received: batch "
                f"{number} of {rows} rows, where the first has {self._batch_size}. Move the short "
                "batch to the end."
            )
        with self._lock:
            self._batches[number] = batch
            if len(self._batches) > _CACHED_BATCHES:
                self._batches.popitem(last=False)
        return batch


def leaves_of_columns(columns: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns columns in the order of `leaves`, for flat examples."""
    return [(f"[{key!r}]", columns[key]) for key in sorted(columns)]


def checked_batch(batch: Any, number: int) -> Any:
    """Returns a batch of a `PyDataset` as a structure of arrays of one length."""
    arrays = _map(lambda part: as_array(part, f"batch {number}"), batch)
    lengths = {array.shape[:1] for _, array in leaves(arrays)}
    if len(lengths) != 1 or () in lengths:
        raise WrongExampleError(
            "`dataset` must have batches whose parts have the same number of rows. Received: batch "
            f"{number} with parts of {sorted(lengths)} rows. Check its __getitem__."
        )
    return arrays


def batch_rows(batch: Any) -> int:
    """Returns the rows of a batch."""
    return len(leaves(batch)[0][1])


def _row(batch: Any, row: int) -> Any:
    return _map(lambda part: part[row], batch)


def _map(function: Callable[[Any], Any], example: Any) -> Any:
    if isinstance(example, Mapping):
        return {key: _map(function, part) for key, part in example.items()}
    if isinstance(example, tuple) or is_structure(example):
        return tuple(_map(function, part) for part in example)
    return function(example)


def _checked(value: Any, part: Part, index: int) -> np.ndarray:
    array = as_array(value, f"example {index}{part.path}")
    fits = array.ndim == len(part.shape) and all(
        wanted in (None, size) for size, wanted in zip(array.shape, part.shape, strict=True)
    )
    found = dtype_name(array)
    if fits and found != part.dtype and array.size == 0 and None in part.shape:
        return array.astype(object if part.dtype == "string" else part.dtype)  # [] has no type
    is_other_number = found != part.dtype and "string" not in (found, part.dtype)
    is_cast = fits and part.is_cast and is_other_number
    if is_cast and np.can_cast(array.dtype, part.dtype, "same_kind"):
        return array.astype(part.dtype)
    if fits and found == part.dtype:
        return array
    received = f"example {index}{part.path} of {found}, shape {array.shape}"
    if found != part.dtype:
        cure = "Convert it in __getitem__, or pass element_spec=... with the type of all."
    else:
        cure = (
            "Give all examples one shape in __getitem__, or, if only the first dimension differs, "
            "pass element_spec=... with None in its place."
        )
    raise WrongExampleError(
        f"`dataset` must have examples of one shape and type. Received: {received}, where "
        f"{part.dtype}, shape {part.shape} is expected. {cure}"
    )


def _joined(rows: list[np.ndarray], part: Part) -> Any:
    if None in part.shape:
        return rows
    dtype: Any = object if part.dtype == "string" else part.dtype
    shape: Any = (len(rows), *part.shape)
    joined = np.empty(shape, dtype)
    for index, row in enumerate(rows):
        joined[index] = row[()]  # of no dimension: the object, not an array of it
    return joined


def _as_bytes(text: Any) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


def _paths(paths: Any) -> str:
    return ", ".join(path or "one value" for path in paths) or "no value"


# How the two processes speak: messages of a length and a pickle.
_LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, message: bytes) -> None:
    """Writes one message."""
    stream.write(_LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """Returns the next message, or None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    message = stream.read(size)
    return message if len(message) == size else None


def serve() -> None:
    """Reads for another process until it closes standard input: the main of a reading process."""
    import signal
    from multiprocessing import spawn

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the other process ends this one
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what the dataset prints must not be read as an answer
    todo: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        while (message := receive(requests)) is not None:
            todo.put(message)
        os._exit(0)  # also while the dataset waits for something

    try:
        start = receive(requests)
        if start is None:
            return
        path, main, pickled = pickle.loads(start)
        sys.path[:] = path
        threading.Thread(target=listen, daemon=True).start()
        if main:
            spawn.prepare(main)
        dataset, kind, batch_size, parts = pickle.loads(pickled)
        examples = Examples(dataset, kind, batch_size, [Part(*part) for part in parts])
        answer: tuple[str, Any] = ("ready", None)
    except BaseException as error:
        answer = ("start", (f"{type(error).__name__}: {error}", traceback.format_exc()))
    send(answers, pickle.dumps(answer))
    while answer[0] != "start":
        indices = np.frombuffer(todo.get(), np.int64)
        try:
            answer = ("examples", examples.read(indices))
        except WrongExampleError as error:
            answer = ("wrong", str(error))
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            answer = ("failed", (reason, traceback.format_exc()))
        with contextlib.suppress(BrokenPipeError):
            send(answers, pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    serve()
