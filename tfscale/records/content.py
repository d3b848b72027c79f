"""What a file of records contains: TFRecord (uncompressed, GZIP, ZLIB) and ArrayRecord.

The first bytes of a file say which of these it is. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfscale.records.index import (
    COMPRESSED,
    HEADER,
    RecordFileError,
    RecordIndex,
    damaged,
    each_record,
    is_header,
)

_PIECE = 1 << 22
_ARRAY_RECORD = bytes.fromhex("83af70d10d884a3f")  # the first bytes of every file of Riegeli
_MOST_READ = 1024


@dataclass(frozen=True)
class Content:
    """What one complete read of a file found.

    Attributes:
        container: "tfrecord" or "array_record".
        compression: "GZIP" or "ZLIB"; "" for an uncompressed TFRecord file, and for ArrayRecord,
            which compresses by itself.
        size: Bytes of the file.
        sha256: Hash of the file, in hexadecimal.
        records: Number of undamaged records from its start on.
        data_size: Bytes of their data.
        problem: The first damage, in a sentence; "" if every checksum is right.
        index: Lengths and checksums of an undamaged, uncompressed TFRecord file; None for others.
    """

    container: str
    compression: str
    size: int
    sha256: str
    records: int
    data_size: int
    problem: str
    index: RecordIndex | None = None


def format_of(path: str) -> tuple[str, str]:
    """Returns container and compression of a file, by its first bytes; see `Content`.

    Raises:
        OSError: If it cannot be read.
    """
    with Path(path).open("rb") as file:
        start = file.read(HEADER.size)
    if start.startswith(_ARRAY_RECORD):
        return "array_record", ""
    if is_header(start):  # first: the length of a record may look like a compressed file
        return "tfrecord", ""
    return "tfrecord", COMPRESSED.get(start[:2], "")


def examined(path: str, say: Callable[[int], None]) -> Content:
    """Reads a file once to its end, and checks the checksums of all records.

    Memory: about 16 MiB, or a record if that is larger.

    Args:
        path: The file.
        say: Called now and then with the number of bytes read so far.

    Raises:
        OSError: If it cannot be read.
        ImportError: If the package for its container is not installed.
    """
    container, compression = format_of(path)
    lengths, checksums = array.array("Q"), array.array("I")
    problem = ""
    with _Watched(path, say) as watched:
        try:
            for length, checksum, _ in _records(watched, path, container, compression, keep=False):
                lengths.append(length)
                checksums.append(checksum)
        except RecordFileError as error:
            problem = str(error)
        watched.read_rest()
    if not lengths and not problem:
        problem = f"{path} has no records. Write it again, or leave it out."
    index = None
    if not problem and (container, compression) == ("tfrecord", ""):
        index = RecordIndex(
            watched.size, np.array(lengths, np.int64), np.array(checksums, np.uint32)
        )
    return Content(
        container,
        compression,
        watched.size,
        watched.sha256,
        len(lengths),
        sum(lengths),
        problem,
        index,
    )


def records_in(path: str) -> Iterator[bytes]:
    """Yields the records of a file in their order, and checks their checksums.

    Raises:
        RecordFileError: If it is damaged, or of another container.
        OSError: If it cannot be read.
        ImportError: If the package for its container is not installed.
    """
    with Path(path).open("rb", buffering=0) as file:
        for _, _, data in _records(file, path, *format_of(path), keep=True):
            yield data


def array_record_library() -> Any:
    """Returns the module that reads and writes ArrayRecord files.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise ImportError(
            "ArrayRecord files are read and written with array_record. Install it: pip install "
            "'tfscale[data]'."
        ) from error
    return array_record_module


def _records(
    file: Any, path: str, container: str, compression: str, *, keep: bool
) -> Iterator[tuple[int, int, bytes]]:
    """Yields length, masked checksum (0 for ArrayRecord) and data of the records of an open file.

    ArrayRecord files are opened by their library instead.
    """
    if container == "array_record":
        for data in _array_records(path):
            yield len(data), 0, data
        return
    raw = _Inflated(file, path) if compression else file
    stream: Any = io.BufferedReader(raw, _PIECE)
    try:
        yield from each_record(stream, path, keep=keep)
    finally:
        stream.detach()  # the file stays open


def _array_records(path: str) -> Iterator[bytes]:
    """Reads the records of an ArrayRecord file, about 4 MiB at a time."""
    library = array_record_library()
    done, count, most = 0, 0, 1
    try:
        reader = library.ArrayRecordReader(
            path, options="readahead_buffer_size:0,max_parallelism:0"
        )
        with contextlib.closing(reader):
            count = reader.num_records()
            while done < count:
                found = reader.read(done, min(done + most, count))
                yield from found
                if len(found) != min(most, count - done):
                    raise damaged(path, done + len(found), "the file ends before it")
                done += len(found)
                mean = sum(map(len, found)) // len(found) + 1
                most = max(1, min(_MOST_READ, 2 * most, _PIECE // mean))
    except RuntimeError as error:
        # The library's text goes on with hashes and offsets.
        raise damaged(path, done, str(error).partition(" (")[0].partition(";")[0]) from error
    if not count:
        raise RecordFileError(
            f"{path} has no records, was truncated, or is no ArrayRecord file. Restore it from its "
            "origin."
        )


class _Inflated(io.RawIOBase):
    """The decompressed content of a file."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file = file
        self._path = path
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # GZIP or ZLIB, by its header
        self._input = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b""
        try:
            while not data:
                if not self._input:
                    self._input = self._file.read(_PIECE)
                    if not self._input:
                        break
                if self._stream.eof:  # compressed files may follow each other
                    self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
                data = self._stream.decompress(self._input, len(buffer))
                self._input = self._stream.unconsumed_tail or self._stream.unused_data
        except zlib.error as error:
            raise self._broken(str(error)) from error
        if not data and not self._stream.eof:
            raise self._broken("the file ends too early")
        buffer[: len(data)] = data
        return len(data)

    def _broken(self, problem: str) -> RecordFileError:
        return RecordFileError(
            f"The compressed content of {self._path} is damaged: {problem}. Restore the file from "
            "its origin."
        )


class _Watched(io.RawIOBase):
    """A file whose hash and progress are known."""

    def __init__(self, path: str, say: Callable[[int], None]) -> None:
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115
        self._say = say
        self._said = 0
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer) or 0
        self._hash.update(memoryview(buffer)[:count])
        self.size += count
        if self.size - self._said >= _PIECE:
            self._said = self.size
            self._say(self.size)
        return count

    def read_rest(self) -> None:
        """Reads to the end of the file."""
        while self.read(_PIECE):
            pass

    def close(self) -> None:
        self._file.close()
        super().close()
