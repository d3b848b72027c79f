"""TFRecord files with random access, through an index beside each file.

train = tfscale.data.record_files("train-*.tfrecord", features={...}, decode=decode)
pipeline = tfscale.data.input_pipeline(train, strategy, 256)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.cli.progress import progress
from tfscale.data.remote import local_files
from tfscale.data.sources.reading import Decode, ReadSource, feature_parser, read_by_file
from tfscale.records.index import (
    FOOTER,
    HEADER,
    OVERHEAD,
    RecordFileError,
    RecordIndex,
    crc32c,
    damaged,
    index_path,
    masked,
    read_index,
)
from tfscale.records.indexing import indexed_files
from tfscale.records.paths import Files, record_paths

# One read of neighbouring records is at most this long, unless one record is longer.
_GROUP_BYTES = 8 << 20
# Idle descriptors that are kept open. Each thread that reads has one more.
_MAX_IDLE = 64


def record_files(
    files: Files,
    *,
    features: Mapping[str, Any] | None = None,
    decode: Decode | None = None,
    index_dir: str | os.PathLike[str] | None = None,
) -> ReadSource:
    """Returns the records of TFRecord files as a source with random access.

    A TFRecord file has no table of contents. An index, `FILE.tfindex`, lists the length and the
    checksum of every record. It is built by one scan when it is missing; `tfscale data index`
    builds it beforehand. Every record that is read is compared with its own checksums and with the
    index, so a file that was damaged, edited or exchanged after it was indexed is refused. Only the
    records of a batch are read, outside Python's lock.

    An index takes 12 bytes of disk and of memory for each record.

    Args:
        files: A path, a pattern such as "train-*.tfrecord", or a list of them. Not compressed.
            Remote files, such as "gs://bucket/train-*.tfrecord", are copied first: see
            `local_copies`.
        features: Features for `tf.io.parse_example`, by name, which parses a batch in the graph.
            Use `tf.io.RaggedFeature` for examples of different lengths. None: an example is the
            bytes of its record, a string scalar.
        decode: Maps one example to tensors with static shapes. Traced; several run at a time.
        index_dir: Folder of the indexes, for record files in a folder that cannot be written. None:
            beside each file.

    Raises:
        ValueError: If `files` match no file, a file is empty, compressed, damaged or no TFRecord
            file, or an index does not belong to its file. A step that reads a damaged record raises
            `tf.errors.InvalidArgumentError`, which names the file and the record.
        OSError: If a file cannot be read, or an index cannot be written.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "words.tfrecord")
        >>> with tf.io.TFRecordWriter(path) as writer:
        ...     for word in (b"one", b"two", b"three"):
        ...         writer.write(word)
        >>> record_files(path).take(tf.constant([2, 0], tf.int64)).numpy().tolist()
        [b'three', b'one']
    """
    paths = record_paths(local_files(files))
    reader = RecordReader(paths, file_indexes(paths, index_dir))
    parse = None if features is None else feature_parser(features)
    return ReadSource(reader, decode, parse=parse)


class RecordReader:
    """Reads the records of several files, numbered one file after the other.

    Attributes:
        num_examples: Number of records of all files.
        element_spec: A string scalar: the bytes of a record.
        fingerprint: Hash of the lengths and checksums of all records.
    """

    element_spec = tf.TensorSpec([], tf.string)

    def __init__(self, paths: list[str], indexes: list[RecordIndex]) -> None:
        """Makes a reader of files and their indexes.

        Args:
            paths: The files.
            indexes: The index of each.
        """
        self._paths = paths
        self._sizes = [index.source_size for index in indexes]
        self._offsets = [
            np.concatenate([[0], np.cumsum(index.lengths + OVERHEAD)]) for index in indexes
        ]
        self._checksums = [index.checksums for index in indexes]
        self._bounds = np.cumsum([0, *(len(index.lengths) for index in indexes)])
        self._descriptors = _Descriptors()
        self.num_examples = int(self._bounds[-1])
        digests = "".join(index.digest for index in indexes)
        self.fingerprint = f"records {hashlib.sha256(digests.encode()).hexdigest()[:32]}"

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records at `indices`, int64 [n], as an array of `bytes`, `object` [n]."""
        return read_by_file(indices, self._bounds, self._of_file)

    def _of_file(self, file: int, rows: np.ndarray) -> np.ndarray:
        """Reads the records of one file at ascending rows."""
        records = np.empty(len(rows), object)
        with self._open(file) as descriptor:
            for start, stop in _groups(rows, self._offsets[file]):
                found = self._records(file, descriptor, rows[start], rows[stop - 1] + 1)
                records[start:stop] = found
        return records

    def _records(self, file: int, descriptor: int, first: int, stop: int) -> np.ndarray:
        """Reads the neighbouring records [first, stop) of a file."""
        offsets = self._offsets[file]
        start, end = int(offsets[first]), int(offsets[stop])
        content = _exactly(descriptor, start, end - start)
        if len(content) < end - start:
            raise self._changed(file, int(first), "the file ends within it")
        found = np.empty(stop - first, object)
        for place, row in enumerate(range(first, stop)):
            position = int(offsets[row]) - start
            size = int(offsets[row + 1]) - int(offsets[row])
            found[place] = self._checked(file, row, content[position : position + size])
        return found

    def _checked(self, file: int, row: int, record: bytes) -> bytes:
        """Returns the data of a record, after comparing it with its checksums and the index."""
        checksum = crc32c().value
        data = record[HEADER.size : -FOOTER.size]
        length, of_length = HEADER.unpack_from(record)
        (of_data,) = FOOTER.unpack(record[-FOOTER.size :])
        if masked(checksum(record[:8])) != of_length or length != len(data):
            raise self._changed(file, row, "its length is another one")
        if of_data != self._checksums[file][row]:
            raise self._changed(file, row, "its checksum is another one")
        if masked(checksum(data)) != of_data:
            raise damaged(self._paths[file], row, "its data does not match its checksum")
        return data

    def _changed(self, file: int, row: int, problem: str) -> RecordFileError:
        path = self._paths[file]
        return RecordFileError(
            f"Record {row} of {path} is not the one that was indexed: {problem}. The file was "
            "damaged, edited or exchanged. Restore it. If it is meant to be this way, run "
            f"`tfscale data index {path}`, with the same --index_dir."
        )

    @contextlib.contextmanager
    def _open(self, file: int) -> Iterator[int]:
        path, size = self._paths[file], self._sizes[file]
        with self._descriptors.borrowed(path) as descriptor:
            now = os.fstat(descriptor).st_size
            if now != size:
                raise RecordFileError(
                    f"{path} has {now} bytes, but had {size} when it was indexed: it was edited or "
                    "truncated. Restore it, or run `tfscale data index` and start again."
                )
            yield descriptor


class _Descriptors:
    """Open files. No two threads use one at the same time, so that it can be closed safely."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[str, int]] = []  # the longest unused first
        weakref.finalize(self, _close_all, self._idle)

    @contextlib.contextmanager
    def borrowed(self, path: str) -> Iterator[int]:
        """Yields a descriptor of a file for this thread."""
        descriptor = self._taken(path)
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        except BaseException:
            os.close(descriptor)
            raise
        with self._lock:
            self._idle.append((path, descriptor))
            oldest = self._idle.pop(0)[1] if len(self._idle) > _MAX_IDLE else None
        if oldest is not None:
            os.close(oldest)

    def _taken(self, path: str) -> int | None:
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place][0] == path:
                    return self._idle.pop(place)[1]
        return None


def _close_all(idle: list[tuple[str, int]]) -> None:
    while idle:
        os.close(idle.pop()[1])


def _groups(rows: np.ndarray, offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields the bounds of runs of neighbouring rows, each short enough for one read."""
    start = 0
    for stop in range(1, len(rows) + 1):
        is_end = stop == len(rows) or rows[stop] != rows[stop - 1] + 1
        if is_end or offsets[rows[stop] + 1] - offsets[rows[start]] > _GROUP_BYTES:
            yield start, stop
            start = stop


def _exactly(descriptor: int, offset: int, size: int) -> bytes:
    """Reads `size` bytes, or fewer at the end of the file. One system call reads at most 2 GiB."""
    pieces = []
    while size:
        piece = os.pread(descriptor, min(size, 1 << 30), offset)
        if not piece:
            break
        pieces.append(piece)
        offset, size = offset + len(piece), size - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def file_indexes(paths: list[str], index_dir: str | os.PathLike[str] | None) -> list[RecordIndex]:
    """Reads the index of every file, and builds those that are missing.

    Args:
        paths: The files.
        index_dir: See `record_files`.

    Raises:
        ValueError: If a file or an index is damaged, or they do not belong together.
        OSError: If a file cannot be read, or an index cannot be written.
    """
    indexes: dict[str, RecordIndex] = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            indexes[path] = read_index(index_path(path, index_dir), path)
    missing = [path for path in paths if path not in indexes]
    if missing:
        with progress("tfscale.data") as say:
            for scan in indexed_files(missing, index_dir, say=say):
                if scan.index is None:
                    assert scan.error is not None
                    raise scan.error
                indexes[scan.source] = scan.index
    return [indexes[path] for path in paths]
