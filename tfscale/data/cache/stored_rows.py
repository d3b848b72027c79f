"""Rows of bytes in memory or in files: written once, then read by index."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from tfscale.data.cache.row_format import Rows, bounds_of

ROWS, OFFSETS, CHECKSUMS = "rows", "offsets", "checksums"
_OFFSET, _CHECKSUM = np.dtype("<i8"), np.dtype("<u4")


class StoredRows:
    """Rows that are read by index. Several threads read at a time.

    Attributes:
        count: Number of rows.
        size: Bytes that they take, with offsets and checksums.
    """

    def __init__(
        self,
        data: np.ndarray,
        offsets: np.ndarray | None,
        *,
        count: int,
        row_bytes: int,
        checksums: np.ndarray | None = None,
        folder: Path | None = None,
    ) -> None:
        """Makes the rows of their bytes.

        Args:
            data: uint8, all rows.
            offsets: int64 [count + 1], where each row begins, or None if all have `row_bytes`.
            count: Number of rows.
            row_bytes: Size of a row, or of its header.
            checksums: uint32 [count], or None if rows are not checked.
            folder: Where the files are, for messages.
        """
        self.count = count
        self._data, self._offsets, self._row_bytes = data, offsets, row_bytes
        self._table = data.reshape(count, row_bytes) if offsets is None else None
        self._checksums, self._folder = checksums, folder
        beside = [array.nbytes for array in (offsets, checksums) if array is not None]
        self.size = data.nbytes + sum(beside)

    def read(self, indices: np.ndarray) -> Rows:
        """Returns the rows at `indices`, int64 [n].

        Raises:
            ValueError: If a row is damaged.
            IndexError: If there is no such row.
        """
        if self._table is not None:
            data = self._table.take(indices, axis=0).reshape(-1)
            rows = Rows(data, np.arange(len(indices) + 1) * self._row_bytes)
        else:
            rows = self._of_different_sizes(indices)
        if self._checksums is not None:
            wanted = self._checksums.take(indices)
            wrong = checksums_of(rows, indices.tolist()) != wanted
            if wrong.any():
                raise self._damaged(int(indices[int(np.argmax(wrong))]))
        return rows

    def _of_different_sizes(self, indices: np.ndarray) -> Rows:
        assert self._offsets is not None
        if len(indices) and not (indices.min() >= 0 and indices.max() < self.count):
            raise IndexError(f"Rows are 0 to {self.count - 1}. Received: {indices}.")
        begins, ends = self._offsets.take(indices), self._offsets.take(indices + 1)
        sizes = ends - begins
        wrong = (begins < 0) | (sizes < self._row_bytes) | (ends > len(self._data))
        if wrong.any():
            raise self._damaged(int(indices[int(np.argmax(wrong))]))
        pairs = zip(begins.tolist(), ends.tolist(), strict=True)
        pieces = [self._data[begin:end] for begin, end in pairs]
        data = np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)
        return Rows(data, bounds_of(sizes))

    def _damaged(self, row: int) -> ValueError:
        return ValueError(
            f"Example {row} of the cache {self._folder} is damaged: its checksum differs. Check "
            "the disk and delete this folder; the next start makes the cache again."
        )


def checksums_of(rows: Rows, indices: list[int]) -> np.ndarray:
    """Returns the CRC-32 of rows, which begins with the number of each row.

    zlib computes it at 6 GB/s, so every row is checked whenever it is read.
    """
    data = rows.data.data
    bounds = rows.offsets.tolist()
    crc32 = zlib.crc32
    found = [
        crc32(data[begin:end], index & 0xFFFFFFFF)
        for index, begin, end in zip(indices, bounds[:-1], bounds[1:], strict=True)
    ]
    return np.array(found, _CHECKSUM)


class Sink(Protocol):
    """Takes the rows of a source, in order.

    Attributes:
        size: Bytes that were taken.
    """

    size: int

    def add(self, rows: Rows) -> None:
        """Takes the next rows."""


class MemorySink:
    """Takes rows into the memory of this process."""

    def __init__(self, count: int, row_bytes: int, *, has_blocks: bool) -> None:
        self.size = 0
        self._count, self._row_bytes, self._has_blocks = count, row_bytes, has_blocks
        # A growing buffer is moved by the kernel without a copy.
        self._data = bytearray() if has_blocks else bytearray(count * row_bytes)
        self._sizes: list[np.ndarray] = []

    def add(self, rows: Rows) -> None:
        """Takes the next rows."""
        end = self.size + len(rows.data)
        self._data[self.size : end] = rows.data.data
        self.size = end
        if self._has_blocks:
            self._sizes.append(np.diff(rows.offsets))

    def stored(self) -> StoredRows:
        """Returns all rows."""
        offsets = bounds_of(np.concatenate(self._sizes)) if self._has_blocks else None
        data = np.frombuffer(self._data, np.uint8)
        return StoredRows(data, offsets, count=self._count, row_bytes=self._row_bytes)


class FileSink:
    """Takes rows into files of a folder."""

    def __init__(self, files: Mapping[str, BinaryIO]) -> None:
        self.size = 0
        self._files, self._row, self._end = files, 0, 0
        if OFFSETS in files:
            self._write(OFFSETS, np.zeros(1, _OFFSET))

    def add(self, rows: Rows) -> None:
        """Takes the next rows.

        Raises:
            OSError: If they cannot be written.
        """
        numbers = list(range(self._row, self._row + len(rows)))
        self._write(ROWS, rows.data)
        self._write(CHECKSUMS, checksums_of(rows, numbers))
        if OFFSETS in self._files:
            self._write(OFFSETS, (rows.offsets[1:] + self._end).astype(_OFFSET))
        self._row += len(rows)
        self._end += len(rows.data)

    def _write(self, name: str, values: np.ndarray) -> None:
        self._files[name].write(values.data)
        self.size += values.nbytes


@contextlib.contextmanager
def writing(folder: Path, *, has_blocks: bool) -> Iterator[FileSink]:
    """Opens the files of a folder, which are on disk when the block ends."""
    with contextlib.ExitStack() as stack:
        names = (ROWS, CHECKSUMS, OFFSETS) if has_blocks else (ROWS, CHECKSUMS)
        files = {name: stack.enter_context((folder / name).open("xb")) for name in names}
        yield FileSink(files)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())


def opened(folder: Path, *, count: int, row_bytes: int, has_blocks: bool) -> StoredRows:
    """Returns the rows that `writing` wrote, mapped into memory.

    Raises:
        OSError: If a file cannot be read.
    """

    def mapped(name: str, dtype: np.dtype[Any]) -> np.ndarray:
        path = folder / name
        # An empty file cannot be mapped.
        is_empty = path.stat().st_size == 0
        return np.zeros(0, dtype) if is_empty else np.asarray(np.memmap(path, dtype, "r"))

    return StoredRows(
        mapped(ROWS, np.dtype(np.uint8)),
        mapped(OFFSETS, _OFFSET) if has_blocks else None,
        count=count,
        row_bytes=row_bytes,
        checksums=mapped(CHECKSUMS, _CHECKSUM),
        folder=folder,
    )
