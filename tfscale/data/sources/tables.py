"""Tables in files: blocks of rows that are decoded as a whole and kept for a while."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data.sources.reading import ReadSource


def file_state(path: str) -> tuple[int, int]:
    """Returns what changes if a file is written again."""
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns


def refuse_changed(path: str, state: tuple[int, int]) -> None:
    """Checks that a file has the `file_state` that it had.

    Raises:
        ValueError: If it has not.
    """
    if file_state(path) != state:
        raise ValueError(
            f"`files` must not change while they are read. Received: {path}, which changed. Build "
            "the source again."
        )


def pyarrow_library() -> Any:
    """Returns `pyarrow`.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "Parquet and CSV files are read with pyarrow. Install it: pip install 'tfscale[data]'."
        ) from error
    return pyarrow


class Blocks:
    """Decoded blocks, of which the last used are kept, up to a number of bytes.

    Several threads use it. A block that one is decoding is not decoded by another.

    Args:
        decode: Returns the decoded block of a number; it has `nbytes`.
        most_bytes: Most bytes to keep. A block in use does not count.
    """

    def __init__(self, decode: Callable[[int], Any], most_bytes: int) -> None:
        self._decode, self._most_bytes = decode, most_bytes
        self._kept: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._locks: dict[int, threading.Lock] = {}
        self._lock = threading.Lock()

    def __getitem__(self, number: int) -> Any:
        with self._lock:
            lock = self._locks.setdefault(number, threading.Lock())
        with lock:
            with self._lock:
                if number in self._kept:
                    self._kept.move_to_end(number)
                    return self._kept[number]
            block = self._decode(number)
            with self._lock:
                self._kept[number] = block
                while sum(kept.nbytes for kept in self._kept.values()) > self._most_bytes:
                    self._kept.popitem(last=False)
            return block


class TableReader:
    """Reads rows of blocks that are `pyarrow.Table`s: see `Reader`.

    Args:
        decode: Returns the block of a number as a table.
        rows: Rows of every block.
        schema: Columns of all blocks.
        fingerprint: See `RandomAccessSource`.
        where: Returns where a block is, for messages.
        most_bytes: See `Blocks`.
    """

    def __init__(
        self,
        decode: Callable[[int], Any],
        rows: Sequence[int],
        schema: Any,
        fingerprint: str,
        where: Callable[[int], str],
        most_bytes: int,
    ) -> None:
        self._first = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self.num_examples = int(self._first[-1])
        if not self.num_examples:
            raise ValueError("`files` must have at least one row. Received: no row. Check them.")
        self.element_spec = {field.name: _spec(field) for field in schema}
        self.fingerprint = fingerprint
        self._decode_table, self._where = decode, where
        self._blocks = Blocks(self._decoded, most_bytes)

    def read(self, indices: np.ndarray) -> dict[str, Any]:
        """Returns the rows at `indices`, int64 [n], as columns."""
        numbers = np.searchsorted(self._first, indices, side="right") - 1
        order = np.argsort(numbers, kind="stable")
        pieces = []
        for number in np.unique(numbers):
            local = indices[numbers == number] - self._first[number]
            pieces.append(self._blocks[int(number)].take(local))
        back = np.empty(len(indices), np.int64)
        back[order] = np.arange(len(indices))
        arrow = pyarrow_library()
        rows = arrow.concat_tables(pieces).combine_chunks().take(back) if pieces else None
        return {
            name: _array(None if rows is None else rows.column(name), spec)
            for name, spec in self.element_spec.items()
        }

    def _decoded(self, number: int) -> Any:
        table = self._decode_table(number)
        for name in table.column_names:
            refuse_nulls(table.column(name), name, self._where(number))
        return table.combine_chunks()


def table_source(reader: TableReader, target: str | None) -> ReadSource:
    """Returns a reader's rows as dicts, or as pairs of a dict and the column `target`."""
    if target is None:
        return ReadSource(reader)
    return ReadSource(_Pairs(reader, target))


class _Pairs:
    """Rows of a table as (features, target)."""

    def __init__(self, reader: TableReader, target: str) -> None:
        self._reader, self._target = reader, target
        self.num_examples = reader.num_examples
        self.fingerprint = f"{reader.fingerprint}, target {target}"
        self.element_spec = self._pair(reader.element_spec)

    def read(self, indices: np.ndarray) -> Any:
        return self._pair(self._reader.read(indices))

    def _pair(self, columns: dict[str, Any]) -> Any:
        features = {name: part for name, part in columns.items() if name != self._target}
        return features, columns[self._target]


def chosen_columns(
    schema: Any, columns: Sequence[str] | None, target: str | None, files: Sequence[str]
) -> list[str]:
    """Returns the names of the columns to read, the target's too.

    Raises:
        ValueError: If one does not exist, or occurs twice, or `columns` is empty.
    """
    names = list(schema.names) if columns is None else list(columns)
    if isinstance(columns, str):
        names = [columns]
    if target is not None and target not in names:
        names.append(target)
    for name in names:
        if schema.names.count(name) != 1:
            raise ValueError(
                "`columns` and `target` must name columns that occur once. Received: "
                f"{name!r}, of which {files[0]} has {schema.names.count(name)}. It has "
                f"{', '.join(schema.names)}."
            )
    if len(set(names)) != len(names) or not set(names) - {target}:
        raise ValueError(
            "`columns` must have at least one column besides `target`, each once. Received: "
            f"columns={columns!r}, target={target!r}. Omit it to read all."
        )
    return names


def refuse_nulls(column: Any, name: str, where: str) -> None:
    """Checks that a column has no missing value, in its lists too.

    Raises:
        ValueError: If it has.
    """
    for chunk in column.chunks:
        array = chunk
        while array.null_count == 0 and hasattr(array, "flatten") and _is_list(array.type):
            array = array.flatten()
        if array.null_count:
            raise nulls(name, where)


def nulls(name: str, where: str) -> ValueError:
    """Returns the error about missing values."""
    return ValueError(
        "`files` must have a value in every row. Received: "
        f"column {name!r} of {where} with missing values (null). Fill them when the file is "
        "written, remove the rows, or leave the column out with columns=[...]."
    )


def plain_type(field: Any) -> Any:
    """Returns the type of a column, without a dictionary.

    Raises:
        ValueError: If it has no type in TensorFlow.
    """
    arrow = pyarrow_library()
    kind = field.type.value_type if arrow.types.is_dictionary(field.type) else field.type
    values = kind
    while arrow.types.is_fixed_size_list(values):
        values = values.value_type
    if values is kind and (arrow.types.is_list(values) or arrow.types.is_large_list(values)):
        values = values.value_type
    types = arrow.types
    is_text = any(
        check(values)
        for check in (
            types.is_string,
            types.is_large_string,
            types.is_binary,
            types.is_large_binary,
        )
    )
    is_number = types.is_integer(values) or types.is_floating(values) or types.is_boolean(values)
    if not is_number and not (is_text and not arrow.types.is_fixed_size_list(kind)):
        raise ValueError(
            "`files` must have columns of numbers, booleans, strings, or lists of them. Received: "
            f"column {field.name!r} of type {field.type}. Convert it when the file is written, or "
            "leave it out with columns=[...]."
        )
    return kind


def _is_list(kind: Any) -> bool:
    types = pyarrow_library().types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _spec(field: Any) -> tf.TensorSpec:
    arrow = pyarrow_library()
    kind, shape = plain_type(field), []
    while _is_list(kind):
        shape.append(kind.list_size if arrow.types.is_fixed_size_list(kind) else None)
        kind = kind.value_type
    is_number = arrow.types.is_integer(kind) or arrow.types.is_floating(kind)
    is_number = is_number or arrow.types.is_boolean(kind)
    return tf.TensorSpec(shape, tf.as_dtype(kind.to_pandas_dtype()) if is_number else tf.string)


def _array(column: Any, spec: tf.TensorSpec) -> Any:
    """Returns a column as an array [n, ...], or as a list of n arrays."""
    is_ragged = bool(spec.shape.rank) and spec.shape[0] is None
    dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
    if column is None:
        return [] if is_ragged else np.empty((0, *spec.shape), dtype)
    array = column.combine_chunks()
    if hasattr(array, "chunks"):
        array = array.chunk(0)
    if is_ragged:
        offsets = array.offsets.to_numpy()
        values = _values(array.flatten(), dtype)
        return np.split(values, offsets[1:-1] - offsets[0])
    while _is_list(array.type):
        array = array.flatten()
    return _values(array, dtype).reshape(len(column), *spec.shape)


def _values(array: Any, dtype: Any) -> np.ndarray:
    if dtype is object:
        texts = array.to_pylist()
        made = [text.encode() if isinstance(text, str) else text for text in texts]
        joined = np.empty(len(made), object)
        joined[:] = made
        return joined
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype)
