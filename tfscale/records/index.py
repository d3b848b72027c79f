"""The index of a TFRecord file: where its records are, and their checksums.

A TFRecord file is a sequence of records, without a table of contents:

    uint64 length | uint32 checksum of the length | data | uint32 checksum of the data

An index is a small file beside it, `FILE.tfindex`. All numbers are little endian:

    "TFSINDEX" | uint32 version | uint64 size of the record file | uint64 n
    | uint64 [n], lengths | uint32 [n], checksums of the data
    | uint32, checksum of everything before it

Offsets are not stored: records follow each other, so they are sums of the lengths. Checksums are
CRC-32C; those of records are masked as in the record file.
"""

from __future__ import annotations

import array
import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfscale.files import reason, whole_files

SUFFIX = ".tfindex"
VERSION = 1
OVERHEAD = 16
"""Bytes of a record beside its data."""
HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")

_MAGIC = b"TFSINDEX"
_START = struct.Struct("<8sIQQ")
_PIECE = 1 << 22
COMPRESSED = {b"\x1f\x8b": "GZIP", b"\x78\x01": "ZLIB", b"\x78\x9c": "ZLIB", b"\x78\xda": "ZLIB"}


class RecordFileError(ValueError):
    """A record file or its index is damaged, or they do not belong together."""


@dataclass(frozen=True, eq=False)
class RecordIndex:
    """Where the records of a file are.

    Attributes:
        source_size: Bytes of the record file.
        lengths: int64 [n], bytes of the data of every record.
        checksums: uint32 [n], masked CRC-32C of the data of every record.
    """

    source_size: int
    lengths: np.ndarray
    checksums: np.ndarray

    def to_bytes(self) -> bytes:
        """Returns the index as it is in its file."""
        body = (
            _START.pack(_MAGIC, VERSION, self.source_size, len(self.lengths))
            + self.lengths.astype("<u8").tobytes()
            + self.checksums.astype("<u4").tobytes()
        )
        return body + FOOTER.pack(crc32c().value(body))

    @property
    def digest(self) -> str:
        """Hash of the lengths and checksums: it differs if the records do."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def crc32c() -> Any:
    """Returns the module that computes checksums.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import google_crc32c
    except ImportError as error:
        raise ImportError(
            "TFRecord files need google-crc32c. Install it: pip install 'tfscale[data]'."
        ) from error
    return google_crc32c


def masked(checksum: int) -> int:
    """Returns a CRC-32C in the form that TFRecord files contain."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def index_path(source: str, index_dir: str | os.PathLike[str] | None = None) -> Path:
    """Returns the path of the index of a record file.

    Args:
        source: The record file.
        index_dir: Folder of indexes. A hash of the absolute path keeps files of the same name
            apart. None: beside the record file.
    """
    if index_dir is None:
        return Path(source + SUFFIX)
    full = Path(source).absolute()
    key = hashlib.sha256(os.fsencode(full)).hexdigest()[:12]
    return Path(index_dir, f"{full.name}-{key}{SUFFIX}")


def scanned(source: str, say: Callable[[int], None] | None = None) -> RecordIndex:
    """Reads a record file once, checks all checksums and returns its index.

    Memory: 12 bytes for each record, and 4 MiB.

    Args:
        source: The record file.
        say: Called with the number of bytes read so far, once in about 4 MiB.

    Raises:
        RecordFileError: If it is not an uncompressed TFRecord file, or damaged.
        OSError: If it cannot be read.
    """
    lengths, checksums = array.array("Q"), array.array("I")
    with Path(source).open("rb", buffering=_PIECE) as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise RecordFileError(f"{source} is empty. Write it again, or leave it out.")
        offset = said = 0
        for length, crc, _ in each_record(file, source, size):
            lengths.append(length)
            checksums.append(crc)
            offset += OVERHEAD + length
            if say and offset - said >= _PIECE:
                say(offset)
                said = offset
    return RecordIndex(size, np.array(lengths, np.int64), np.array(checksums, np.uint32))


def each_record(
    file: BinaryIO, source: str, size: int | None = None, *, keep: bool = False
) -> Iterator[tuple[int, int, bytes]]:
    """Reads the records of a TFRecord file in their order and checks all checksums.

    Args:
        file: The open file, at its start. Of a compressed file, its decompressed content.
        source: The path, for errors.
        size: Bytes of the file; None if unknown.
        keep: Whether to return the data. Otherwise at most 4 MiB of a record are in memory.

    Yields:
        Length, masked checksum and data of each record; the data is empty unless `keep`.

    Raises:
        RecordFileError: If it is not an uncompressed TFRecord file, or damaged.
        OSError: If it cannot be read.
    """
    checksum = crc32c()
    number = offset = 0
    while offset != size and (header := file.read(HEADER.size)):
        length = _length(header, source, number, None if size is None else size - offset)
        crc, left, pieces = 0, length, []
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                raise damaged(source, number, "the file ends within it")
            crc = checksum.extend(crc, piece)
            left -= len(piece)
            if keep:
                pieces.append(piece)
        stored = file.read(FOOTER.size)
        if len(stored) < FOOTER.size or FOOTER.unpack(stored)[0] != masked(crc):
            raise damaged(source, number, "its data does not match its checksum")
        yield length, masked(crc), b"".join(pieces)
        number += 1
        offset += OVERHEAD + length
    if size is not None and offset < size:
        raise damaged(source, number, "the file was cut while it was read")


def read_index(path: Path, source: str) -> RecordIndex:
    """Reads an index and checks that it is complete and of the size of the record file.

    Args:
        path: The index.
        source: The record file.

    Raises:
        FileNotFoundError: If there is no index.
        RecordFileError: If the index is damaged, or of a file of another size.
        OSError: If a file cannot be read.
    """
    content = path.read_bytes()
    cure = f"Run `tfscale data index`, or remove the index {path}."
    wrong = RecordFileError(f"{path}, the index of {source}, is damaged. {cure}")
    if len(content) < _START.size + FOOTER.size or content[:8] != _MAGIC:
        raise wrong
    if crc32c().value(content[: -FOOTER.size]) != FOOTER.unpack(content[-FOOTER.size :])[0]:
        raise wrong
    _, version, source_size, count = _START.unpack_from(content)
    if version != VERSION:
        raise RecordFileError(f"{path} is of version {version}, not {VERSION}. {cure}")
    if len(content) != _START.size + 12 * count + FOOTER.size:
        raise wrong
    lengths = np.frombuffer(content, "<u8", count, _START.size)
    checksums = np.frombuffer(content, "<u4", count, _START.size + 8 * count)
    if not count or int(lengths.max()) > source_size:
        raise wrong
    if int(lengths.sum()) + OVERHEAD * count != source_size:
        raise wrong
    size = Path(source).stat().st_size
    if size != source_size:
        raise RecordFileError(
            f"{source} has {size} bytes, but had {source_size} when it was indexed: it was edited "
            f"or truncated. Restore it. If it is meant to be this way: {cure}"
        )
    return RecordIndex(source_size, lengths.astype(np.int64), checksums.astype(np.uint32))


def write_index(path: Path, index: RecordIndex) -> None:
    """Writes an index atomically. Several processes may write the same one.

    Raises:
        OSError: If it cannot be written. The text names the cure.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_files(path) as (file,):
            file.write(index.to_bytes())
    except OSError as error:
        raise OSError(
            f"The index {path} could not be written: {reason(error)}. Choose another folder with "
            "index_dir=, or run `tfscale data index` where it can be written."
        ) from error


def is_header(content: bytes) -> bool:
    """Returns whether these 12 bytes are the length of a record and its checksum."""
    if len(content) != HEADER.size:
        return False
    return bool(HEADER.unpack(content)[1] == masked(crc32c().value(content[:8])))


def damaged(source: str, number: int, problem: str) -> RecordFileError:
    """Returns the error of one record."""
    return RecordFileError(
        f"Record {number} of {source} is damaged: {problem}. Restore the file from its origin."
    )


def _length(header: bytes, source: str, number: int, left: int | None) -> int:
    """Returns the length of the next record, after checking it."""
    if len(header) < HEADER.size:
        if number == 0:
            raise _not_records(source, header)
        raise damaged(source, number, "the file ends within it")
    if not is_header(header):
        if number == 0:
            raise _not_records(source, header)
        raise damaged(source, number, "its length does not match its checksum")
    length: int = HEADER.unpack(header)[0]
    if left is not None and length + OVERHEAD > left:
        raise damaged(source, number, "the file ends within it")
    return length


def _not_records(source: str, header: bytes) -> RecordFileError:
    if kind := COMPRESSED.get(header[:2]):
        return RecordFileError(
            f"{source} is compressed ({kind}), so that its records have no random access. "
            "Write it without compression, or read it with tf.data.TFRecordDataset("
            f"files, compression_type={kind!r})."
        )
    return RecordFileError(
        f"{source} is not a TFRecord file, or its first record is damaged. Check the path."
    )
