"""ArrayRecord files, whose records the library `array_record` reads in any order.

train = tfscale.data.array_record("train-*.array_record", features={...}, decode=decode)
pipeline = tfscale.data.input_pipeline(train, strategy, 256)
"""

from __future__ import annotations

import collections
import hashlib
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from strategies.extension import whole_number
from tfscale.data.remote import local_files
from tfscale.data.sources.reading import Decode, ReadSource, feature_parser, read_by_file
from tfscale.data.sources.tables import file_state
from tfscale.records.content import array_record_library
from tfscale.records.index import RecordFileError
from tfscale.records.paths import Files, record_paths

# As the library recommends for random access: each call reads in its own thread.
_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER_BYTES = 1 << 15
_MAX_OPEN = 64
_END_BYTES = 1 << 16


def array_record(
    files: Files,
    *,
    features: Mapping[str, Any] | None = None,
    decode: Decode | None = None,
    max_group_size: int = 1,
) -> ReadSource:
    """Returns the records of ArrayRecord files as a source with random access.

    ArrayRecord compresses records in groups, and reading a record decompresses its group. Write
    with `ArrayRecordWriter(path, "group_size:1")`. That costs about 80 bytes a record, and records
    that resemble each other are not compressed together: 10,000 lines of JSON, 70 bytes each and
    nearly the same, took 138 bytes a record with groups of 1, 26 with 16 and 13 with 256. For
    records of a kB or more, such as JPEG images, the difference is below 8%.

    The library compares each group with its checksum. A file that changes after the source was
    built is refused. Unlike `record_files`, this notices an exchanged file between two runs only by
    its name, size, first and last 64 KiB, which are part of the fingerprint.

    Args:
        files: A path, a pattern such as "train-*.array_record", or a list of them. Remote files are
            copied first: see `local_copies`.
        features: Features for `tf.io.parse_example`, by name, which parses a batch in the graph.
            Use `tf.io.RaggedFeature` for examples of different lengths. None: an example is the
            bytes of its record, a string scalar.
        decode: Maps one example to tensors with static shapes. Traced; several run at a time.
        max_group_size: Most records in a group of a file. A larger number accepts that reading one
            record costs as much as reading so many. Positive.

    Raises:
        ImportError: If array_record is not installed.
        ValueError: If `files` match no file, a file is damaged or no ArrayRecord file, or its
            groups are larger than `max_group_size`. A step that reads a damaged record, or a file
            that has changed, raises `tf.errors.InvalidArgumentError`.

    Example:
        >>> import os, tempfile
        >>> from array_record.python.array_record_module import ArrayRecordWriter
        >>> path = os.path.join(tempfile.mkdtemp(), "words.array_record")
        >>> writer = ArrayRecordWriter(path, "group_size:1")
        >>> for word in (b"one", b"two", b"three"):
        ...     writer.write(word)
        >>> writer.close()
        >>> array_record(path).take(tf.constant([2, 0], tf.int64)).numpy().tolist()
        [b'three', b'one']
    """
    whole_number("max_group_size", max_group_size, at_least=1, cure="Count records.")
    array_record_library()
    parse = None if features is None else feature_parser(features)
    reader = ArrayRecordReader(record_paths(local_files(files)), max_group_size)
    return ReadSource(reader, decode, parse=parse)


class ArrayRecordReader:
    """Reads the records of several files, numbered one file after the other.

    Attributes:
        num_examples: Number of records of all files.
        element_spec: A string scalar: the bytes of a record.
        fingerprint: Hash of names, sizes, and the beginnings and ends of the files.
    """

    element_spec = tf.TensorSpec([], tf.string)

    def __init__(self, paths: list[str], max_group_size: int) -> None:
        """Makes a reader of files.

        Args:
            paths: The files.
            max_group_size: Most records in a group.
        """
        self._paths = paths
        self._states = [file_state(path) for path in paths]
        self._lock = threading.Lock()
        # The last used; another thread may still use one that was dropped.
        self._open: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._bounds = np.zeros(len(paths) + 1, np.int64)
        digest = hashlib.sha256()
        for file, path in enumerate(paths):
            reader = self._opened(file)
            _check_groups(path, reader.writer_options_string() or "", max_group_size)
            self._bounds[file + 1] = self._bounds[file] + reader.num_records()
            digest.update(_description(path))
        self.num_examples = int(self._bounds[-1])
        self.fingerprint = f"array_record {digest.hexdigest()[:32]}"

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records at `indices`, int64 [n], as an array of `bytes`, `object` [n]."""
        return read_by_file(indices, self._bounds, self._records)

    def _records(self, file: int, rows: np.ndarray) -> list[bytes]:
        path, problem = self._paths[file], None
        try:
            found: list[bytes] = self._opened(file).read(rows.tolist())
        except RuntimeError as error:
            problem = str(error)
        # Afterwards: the library returns empty records if the file was truncated while it was open.
        if file_state(path) != self._states[file]:
            raise RecordFileError(
                f"{path} changed after the source was built. Restore it, or build the source again."
            )
        if problem is not None:
            raise RecordFileError(f"{path} is damaged: {problem}. Restore it from its origin.")
        return found

    def _opened(self, file: int) -> Any:
        with self._lock:
            if file in self._open:
                self._open.move_to_end(file)
                return self._open[file]
        reader = _reader(self._paths[file])
        with self._lock:
            self._open[file] = reader
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
        return reader


def _reader(path: str) -> Any:
    """Opens a file.

    Raises:
        RecordFileError: If it has no records.
    """
    try:
        reader = array_record_library().ArrayRecordReader(
            path, options=_OPTIONS, file_reader_buffer_size=_BUFFER_BYTES
        )
        if reader.num_records():
            return reader
        problem = "it has no records, was truncated, or is no ArrayRecord file"
    except RuntimeError as error:
        problem = str(error)
    raise RecordFileError(
        f"`files` must be ArrayRecord files with records. Received: {path}: {problem}. Check the "
        "path, or write it again."
    )


def _check_groups(path: str, options: str, most: int) -> None:
    found = re.search(r"\bgroup_size:(\d+)", options)
    if found is None:
        raise RecordFileError(
            f"{path} does not say how many records a group has. Write it again with a newer "
            "array_record."
        )
    if int(found[1]) > most:
        raise RecordFileError(
            f"`files` must have groups of at most {most} record{'' if most == 1 else 's'}. "
            f"Received: {path}, with groups of {found[1]}, so that reading one record decompresses "
            f"{found[1]}. Write it again with ArrayRecordWriter(path, 'group_size:1'), or accept "
            f"the cost: max_group_size={found[1]}."
        )


def _description(path: str) -> bytes:
    """Returns what tells a file from another without reading it whole."""
    with Path(path).open("rb") as file:
        first = file.read(_END_BYTES)
        size = file.seek(0, 2)
        file.seek(max(0, size - _END_BYTES))
        last = file.read(_END_BYTES)
    ends = hashlib.sha256(first + last).hexdigest()
    return f"{Path(path).name} {size} {ends}\n".encode("utf-8", "surrogateescape")
