"""How an example is stored: as one row of bytes.

A row begins with a header of fixed size: the values of all parts of fixed shape, then the sizes of
the blocks. Blocks follow: values of ragged parts, their inner lengths, and texts. Without such
parts there are no blocks, and all rows have the same size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

_LENGTH = np.dtype("<i8")


@dataclass(frozen=True)
class Rows:
    """Rows of bytes, one after the other.

    Attributes:
        data: uint8 [total bytes].
        offsets: int64 [n + 1], where each row begins and the last ends.
    """

    data: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1


class RowFormat:
    """Converts batches to rows of bytes and back, bit for bit.

    Attributes:
        spec: Structure of `tf.TypeSpec` of a batch.
        header_bytes: Size of a row without its blocks.
        has_blocks: Whether rows differ in size.
    """

    def __init__(self, spec: Any) -> None:
        """Makes the format of a source.

        Args:
            spec: Structure of `tf.TypeSpec` of a batch of any number of examples.

        Raises:
            ValueError: If a part is neither a dense tensor whose other dimensions are known nor
                ragged.
        """
        self.spec = spec
        self._parts = [_part(leaf) for leaf in tf.nest.flatten(spec)]
        self._num_blocks = sum(part.num_blocks for part in self._parts)
        self._fixed_bytes = sum(part.fixed_bytes for part in self._parts)
        self.header_bytes = self._fixed_bytes + self._num_blocks * _LENGTH.itemsize
        self.has_blocks = self._num_blocks > 0

    def tensors(self, batch: Any) -> list[tf.Tensor]:
        """Returns the tensors of a batch, with those inside of ragged tensors. Traced."""
        found: list[tf.Tensor] = []
        for leaf in tf.nest.flatten(batch):
            if isinstance(leaf, tf.RaggedTensor):
                splits = [tf.cast(split, tf.int64) for split in leaf.nested_row_splits]
                found += [leaf.flat_values, *splits]
            else:
                found.append(leaf)
        return found

    @property
    def dtypes(self) -> list[tf.DType]:
        """Types of `tensors`."""
        return [dtype for part in self._parts for dtype in [part.dtype, *[tf.int64] * part.rank]]

    def batch(self, tensors: list[tf.Tensor], rows: int | None) -> Any:
        """Returns the batch of `tensors`. Traced.

        Args:
            tensors: Of the types and the order of `tensors`.
            rows: Number of examples, or None if it is not static.
        """
        found = iter(tensors)
        leaves = [part.leaf(list(itertools.islice(found, 1 + part.rank)), rows) for part in self]
        return tf.nest.pack_sequence_as(self.spec, leaves)

    def __iter__(self) -> Iterator[_Part]:
        return iter(self._parts)

    def rows(self, arrays: list[np.ndarray]) -> Rows:
        """Returns the rows of the arrays of `tensors`."""
        found = iter(arrays)
        fixed, blocks = [], []
        for part in self:
            own_fixed, own_blocks = part.encoded(list(itertools.islice(found, 1 + part.rank)))
            fixed.append(own_fixed)
            blocks += own_blocks
        header = np.concatenate(fixed, axis=1)
        count = len(header)
        if not blocks:
            return Rows(header.reshape(-1), np.arange(count + 1) * self.header_bytes)
        sizes = np.stack([sizes for _, sizes in blocks], axis=1).astype(_LENGTH)
        header = np.concatenate([header, _bytes(sizes)], axis=1)
        columns = [(header.reshape(-1), np.full(count, self.header_bytes)), *blocks]
        return _interleaved(columns, count)

    def arrays(self, rows: Rows) -> list[np.ndarray]:
        """Returns the arrays of `tensors` of rows."""
        count = len(rows)
        header, blocks = self._split(rows)
        found, offset, block = [], 0, 0
        for part in self:
            fixed = header[:, offset : offset + part.fixed_bytes]
            found += part.decoded(fixed, blocks[block : block + part.num_blocks], count)
            offset += part.fixed_bytes
            block += part.num_blocks
        return found

    def _split(self, rows: Rows) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns the headers uint8 [n, header_bytes], and each block of all rows, joined."""
        count = len(rows)
        if not self.has_blocks:
            return rows.data.reshape(count, self.header_bytes), []
        begins = rows.offsets[:-1]
        header = _joined(rows.data, begins, begins + self.header_bytes)
        header = header.reshape(count, self.header_bytes)
        sizes = _values(header[:, self._fixed_bytes :], _LENGTH, (self._num_blocks,))
        ends = np.cumsum(sizes, axis=1) + (begins + self.header_bytes)[:, np.newaxis]
        blocks = [
            _joined(rows.data, ends[:, column] - sizes[:, column], ends[:, column])
            for column in range(self._num_blocks)
        ]
        return header, blocks


@dataclass(frozen=True)
class _Part:
    """One tensor of a batch.

    Attributes:
        spec: Its spec in a batch.
        dtype: Type of the values.
        rank: Ragged dimensions, 0 for a dense tensor.
        shape: Shape of a value: of an example if dense, else below the ragged dimensions.
    """

    spec: Any
    dtype: tf.DType
    rank: int
    shape: tuple[int, ...]

    @property
    def is_text(self) -> bool:
        return bool(self.dtype == tf.string)

    @property
    def values_dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(self.dtype.as_numpy_dtype)
        return found

    @property
    def fixed_bytes(self) -> int:
        """A dense part has its values in the header, a ragged one its length."""
        if self.rank:
            return _LENGTH.itemsize
        return 0 if self.is_text else math.prod(self.shape) * self.values_dtype.itemsize

    @property
    def num_blocks(self) -> int:
        """Inner lengths by dimension, then values: those of texts are their lengths and bytes."""
        if self.is_text:
            return max(self.rank - 1, 0) + 2
        return self.rank

    def encoded(self, arrays: list[np.ndarray]) -> tuple[np.ndarray, list[Any]]:
        """Returns the fixed values uint8 [n, fixed_bytes], and bytes and row sizes by block."""
        values, *splits = arrays
        if not self.rank:
            count = len(values)
            if not self.is_text:
                return _bytes(values.reshape(count, math.prod(self.shape))), []
            return np.zeros([count, 0], np.uint8), self._text(values, np.arange(count + 1))
        bounds, blocks = splits[0], []
        for split in splits[1:]:
            blocks.append(_block(np.diff(split).astype(_LENGTH), bounds, _LENGTH.itemsize))
            bounds = split[bounds]
        fixed = _bytes(np.diff(splits[0]).astype(_LENGTH)[:, np.newaxis])
        if self.is_text:
            return fixed, blocks + self._text(values, bounds)
        size = math.prod(self.shape) * self.values_dtype.itemsize
        return fixed, [*blocks, _block(values, bounds, size)]

    def _text(self, values: np.ndarray, bounds: np.ndarray) -> list[Any]:
        texts = values.reshape(-1).tolist()
        lengths = np.array([len(text) for text in texts], _LENGTH)
        bounds = bounds * math.prod(self.shape)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        joined = np.frombuffer(b"".join(texts), np.uint8)
        return [_block(lengths, bounds, _LENGTH.itemsize), (joined, np.diff(ends[bounds]))]

    def decoded(self, fixed: np.ndarray, blocks: list[np.ndarray], count: int) -> list[np.ndarray]:
        """Returns the values, and the row splits of each ragged dimension."""
        splits = []
        if self.rank:
            lengths = [fixed, *blocks[: self.rank - 1]]
            splits = [bounds_of(_values(part, _LENGTH, ())) for part in lengths]
            blocks = blocks[self.rank - 1 :]
        if self.is_text:
            return [_texts(*blocks).reshape(-1 if self.rank else count, *self.shape), *splits]
        values = _values(blocks[0] if self.rank else fixed, self.values_dtype, self.shape)
        return [values, *splits]

    def leaf(self, tensors: list[tf.Tensor], rows: int | None) -> Any:
        values, *splits = tensors
        if not self.rank:
            values.set_shape([rows, *self.shape])
            return values
        values.set_shape([None, *self.shape])
        splits = [tf.cast(split, self.spec.row_splits_dtype) for split in splits]
        splits[0].set_shape([None if rows is None else rows + 1])
        return tf.RaggedTensor.from_nested_row_splits(values, splits, validate=False)


def _part(spec: Any) -> _Part:
    rank = -1
    if isinstance(spec, tf.RaggedTensorSpec):
        rank = spec.ragged_rank
        inner = spec.flat_values_spec
        shape = spec.shape[rank + 1 :] if inner is None else inner.shape[1:]
    elif isinstance(spec, tf.TensorSpec) and spec.shape.rank:
        rank, shape = 0, spec.shape[1:]
    if rank < 0 or None in shape.as_list() or not _is_plain(spec.dtype):
        raise ValueError(
            "`source` must have examples of dense tensors with static shapes, or ragged tensors, "
            f"to be cached. Received: a part {spec}. Make it ragged, or cache the source without "
            "this part."
        )
    return _Part(spec, spec.dtype, rank, tuple(shape.as_list()))


def _is_plain(dtype: tf.DType) -> bool:
    return dtype not in (tf.resource, tf.variant) and not dtype.is_quantized


def _bytes(values: np.ndarray) -> np.ndarray:
    """Returns the bytes of values [n, m] as uint8 [n, bytes]."""
    size = values.shape[1] * values.dtype.itemsize
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).reshape(len(values), size)


def _values(data: np.ndarray, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    """Returns bytes as values [n, *shape]."""
    flat = np.ascontiguousarray(data).reshape(-1).view(dtype)
    if 0 in shape:
        return np.zeros([len(data), *shape], dtype)
    return flat.reshape(-1, *shape)


def _block(values: np.ndarray, bounds: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bytes of values, and how many belong to each example."""
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return data, np.diff(bounds) * size


def bounds_of(lengths: np.ndarray) -> np.ndarray:
    """Returns where pieces of these lengths begin and the last ends, int64 [n + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _texts(lengths: np.ndarray, data: np.ndarray) -> np.ndarray:
    ends, joined = bounds_of(_values(lengths, _LENGTH, ())), data.tobytes()
    found = np.empty(len(ends) - 1, object)
    found[:] = [joined[first:last] for first, last in itertools.pairwise(ends.tolist())]
    return found


def _joined(data: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    pieces = [data[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)


def _interleaved(columns: list[tuple[np.ndarray, np.ndarray]], count: int) -> Rows:
    """Returns rows that have a piece of each column."""
    ends = [bounds_of(sizes).tolist() for _, sizes in columns]
    pieces = [
        data[bounds[row] : bounds[row + 1]]
        for row in range(count)
        for (data, _), bounds in zip(columns, ends, strict=True)
    ]
    sizes = np.stack([sizes for _, sizes in columns]).sum(axis=0, dtype=np.int64)
    data = np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)
    return Rows(data, bounds_of(sizes))
