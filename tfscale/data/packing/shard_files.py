"""Writes one shard of a packed set: a file of records that appears when it is complete."""

from __future__ import annotations

import array
import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfscale.files import reason
from tfscale.records.index import FOOTER, HEADER, RecordIndex, crc32c, index_path, masked
from tfscale.records.index import write_index as write_record_index
from tfscale.records.manifest import Shard, shard_fingerprint

ENDINGS = {"tfrecord": ".tfrecord", "array_record": ".array_record"}
_WINDOW_BITS = {"GZIP": 31, "ZLIB": 15}
_LEVEL = 6
_PIECE = 1 << 20


@dataclass(frozen=True)
class ShardFormat:
    """How shards are written.

    Attributes:
        container: See `Manifest`.
        compression: See `Manifest`.
    """

    container: str
    compression: str | None


def write_shard(
    folder: str | os.PathLike[str],
    file: str,
    first: int,
    batches: Iterable[list[bytes]],
    shard_format: ShardFormat,
) -> Shard:
    """Writes a shard, and the index of one that can have it. The same records are the same bytes.

    Args:
        folder: Folder of the set.
        file: Name of the shard.
        first: Index of its first example.
        batches: Its records, several at a time. At least one.
        shard_format: How they are written.

    Returns:
        What the manifest says about it. The file and its index are on disk.

    Raises:
        OSError: If it cannot be written; nothing is left of it. The text names the cure.
    """
    path = Path(folder, file)
    partial = partial_path(folder, file)
    examples = 0
    try:
        with _opened(partial, path, shard_format) as sink:
            for records in batches:
                for record in records:
                    sink.write(record)
                examples += len(records)
            index = sink.close()
        size, digest = _on_disk(partial, path)
        if index is not None:
            write_record_index(index_path(str(path)), index)
        fingerprint = shard_fingerprint(str(path), *_pair(shard_format))
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return Shard(file, first, examples, size, digest, fingerprint)


def partial_path(folder: str | os.PathLike[str], file: str) -> Path:
    """Returns where a shard is written until it is complete."""
    return Path(folder, f".{file}.partial")


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def not_written(path: str | os.PathLike[str], problem: object) -> OSError:
    """Returns the error about a file of a set that cannot be written."""
    return OSError(
        f"{os.fspath(path)} could not be written: {problem}. Make room or get permission there, "
        "and run the same command again: it continues with the shards that are complete."
    )


def _pair(shard_format: ShardFormat) -> tuple[str, str | None]:
    return shard_format.container, shard_format.compression


class _Sink(Protocol):
    def write(self, record: bytes) -> None: ...

    def close(self) -> RecordIndex | None: ...

    def discard(self) -> None: ...


@contextlib.contextmanager
def _opened(partial: Path, path: Path, shard_format: ShardFormat) -> Iterator[_Sink]:
    kind = _ArrayRecord if shard_format.container == "array_record" else _TFRecord
    sink: _Sink = kind(partial, path, shard_format.compression)
    try:
        yield sink
    finally:
        sink.discard()


class _TFRecord:
    """Writes a TFRecord file."""

    def __init__(self, partial: Path, path: Path, compression: str | None) -> None:
        self._checksum = crc32c()
        self._path = path
        self._compressor: Any = None
        if compression is not None:
            self._compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[compression])
        self._lengths, self._checksums = array.array("q"), array.array("I")
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        try:
            self._file = partial.open("wb", buffering=0)
        except OSError as error:
            raise not_written(path, reason(error)) from error

    def write(self, record: bytes) -> None:
        length = HEADER.pack(len(record), 0)[:8]
        of_length = masked(self._checksum.value(length))
        of_data = masked(self._checksum.value(record))
        pieces = (length, FOOTER.pack(of_length), record, FOOTER.pack(of_data))
        if len(record) >= _PIECE:
            self._flush(is_last=False)
            for piece in pieces:
                self._write(piece)
        else:
            self._waiting += pieces
            self._waiting_bytes += len(record)
        if self._compressor is None:
            self._lengths.append(len(record))
            self._checksums.append(of_data)
        if self._waiting_bytes >= _PIECE:
            self._flush(is_last=False)

    def close(self) -> RecordIndex | None:
        self._flush(is_last=True)
        if self._compressor is not None:
            return None
        lengths = np.array(self._lengths, np.int64)
        return RecordIndex(
            int(lengths.sum()) + 16 * len(lengths), lengths, np.array(self._checksums, np.uint32)
        )

    def discard(self) -> None:
        self._file.close()

    def _flush(self, *, is_last: bool) -> None:
        self._write(b"".join(self._waiting))
        self._waiting, self._waiting_bytes = [], 0
        if is_last and self._compressor is not None:
            self._write_all(self._compressor.flush())

    def _write(self, content: bytes) -> None:
        self._write_all(self._compressor.compress(content) if self._compressor else content)

    def _write_all(self, content: bytes) -> None:
        left = memoryview(content)
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
        except OSError as error:
            raise not_written(self._path, reason(error)) from error


class _ArrayRecord:
    """Writes an ArrayRecord file with one record a group, for random access."""

    def __init__(self, partial: Path, path: Path, compression: str | None) -> None:
        try:
            from array_record.python.array_record_module import ArrayRecordWriter
        except ImportError as error:
            raise ImportError(
                "ArrayRecord files are written with array_record. Install it: pip install "
                "'tfscale[data]'."
            ) from error
        self._path = path
        options = "group_size:1," + ("uncompressed" if compression is None else "zstd:3")
        with self._errors():
            self._writer = ArrayRecordWriter(str(partial), options)

    def write(self, record: bytes) -> None:
        with self._errors():
            self._writer.write(record)

    def close(self) -> None:
        with self._errors():
            self._writer.close()

    def discard(self) -> None:
        with contextlib.suppress(RuntimeError):
            if self._writer.is_open():
                self._writer.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            # "write() failed: No space left on device; writing PATH; at byte N; ..."
            raise not_written(self._path, str(error).partition("; ")[0]) from error


def _on_disk(partial: Path, path: Path) -> tuple[int, str]:
    """Waits until a file is on disk, and renames it. Returns its size and the hash of its content.

    Raises:
        OSError: If that fails.
    """
    try:
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        partial.replace(path)
        return size, digest
    except OSError as error:
        raise not_written(path, reason(error)) from error
