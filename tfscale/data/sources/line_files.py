"""Text files, of which every line is an example."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfscale.data.remote import local_files
from tfscale.data.sources.reading import ReadSource, read_by_file
from tfscale.data.sources.tables import file_state, refuse_changed
from tfscale.records.paths import Files, record_paths

# The place of one line in so many is kept, and so many are read for one.
_RUN = 64
_CHUNK = 1 << 20


def text_lines(files: Files) -> ReadSource:
    r"""Returns the lines of text files as a source.

    An example is a line as a string scalar, without `\n` or `\r\n` at its end. An empty line is an
    empty string. The files are read once here, to find where lines begin; that takes 16 bytes of
    memory for 64 lines. Later, each line is read with those around it.

    Args:
        files: A file, a pattern such as "text-*.txt", or a list of them. Remote files
            are copied first: see `local_copies`.

    Raises:
        ValueError: If a file is missing, or none has a line. Reading a file that has changed raises
            `tf.errors.InvalidArgumentError`.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "a.txt")
        >>> _ = path.write_text("one\ntwo\n\nfour")
        >>> text_lines(path).take(tf.constant([3, 0, 2], tf.int64)).numpy()
        array([b'four', b'one', b''], dtype=object)
    """
    return ReadSource(TextReader(files))


class TextReader:
    """Reads lines of files, numbered one file after the other: see `Reader`.

    Attributes:
        num_examples: Number of lines.
        element_spec: A string scalar.
        fingerprint: Hash of names, sizes and checksums.
    """

    element_spec = tf.TensorSpec([], tf.string)

    def __init__(self, files: Files, see: Callable[[str, int, bytes], None] | None = None) -> None:
        """Finds the lines.

        Args:
            files: See `text_lines`.
            see: Called with file, number from 1, and content of every line, or None.
        """
        self._paths = record_paths(local_files(files))
        self._states = [file_state(path) for path in self._paths]
        self._scans = [_scanned(path, see) for path in self._paths]
        digest = hashlib.sha256()
        for path, scan in zip(self._paths, self._scans, strict=True):
            text = f"{Path(path).name} {scan.places[-1]} {scan.checksum}\n"
            digest.update(text.encode("utf-8", "surrogateescape"))
        self._bounds = np.cumsum([0, *(scan.count for scan in self._scans)])
        self.num_examples = int(self._bounds[-1])
        self.fingerprint = f"lines {digest.hexdigest()[:32]}"
        if not self.num_examples:
            raise ValueError(
                "`files` must have at least one line. Received: "
                f"{', '.join(self._paths[:3])} without one. Check them."
            )

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns lines, `object` [n] with `bytes`."""
        return read_by_file(indices, self._bounds, self._lines)

    def _lines(self, file: int, rows: np.ndarray) -> np.ndarray:
        path, scan = self._paths[file], self._scans[file]
        refuse_changed(path, self._states[file])
        found = np.empty(len(rows), object)
        runs = np.searchsorted(scan.lines, rows, side="right") - 1
        with Path(path).open("rb") as stream:
            for run in np.unique(runs).tolist():
                stream.seek(scan.places[run])
                content = stream.read(int(scan.places[run + 1] - scan.places[run]))
                lines = content.split(b"\n")
                first, stop = np.searchsorted(runs, [run, run + 1])
                for place in range(first, stop):
                    found[place] = lines[rows[place] - scan.lines[run]].removesuffix(b"\r")
        return found


@dataclass(frozen=True, eq=False)
class _Scan:
    """Where lines begin.

    Attributes:
        lines: int64 [n], the first line of each run, from 0.
        places: int64 [n + 1], where each run begins, and the size of the file.
        count: Number of lines.
        checksum: CRC-32 of the file.
    """

    lines: np.ndarray
    places: np.ndarray
    count: int
    checksum: int


def _scanned(path: str, see: Callable[[str, int, bytes], None] | None) -> _Scan:
    lines, places = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)]
    count = checksum = size = 0
    is_open = False
    rest = b""
    for chunk in _chunks(path):
        checksum = zlib.crc32(chunk, checksum)
        ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + 1
        # A run ends with its chunk, so that runs of long lines are short.
        lines.append(count + 1 + np.arange(0, len(ends), _RUN))
        places.append(size + ends[::_RUN])
        if see is not None:
            *whole, rest = (rest + chunk).split(b"\n")
            for number, line in enumerate(whole, count + 1):
                see(path, number, line.removesuffix(b"\r"))
        count, size = count + len(ends), size + len(chunk)
        is_open = not chunk.endswith(b"\n")
    if is_open:
        count += 1
        if see is not None:
            see(path, count, rest.removesuffix(b"\r"))
    numbers = np.concatenate(lines)
    has_line = numbers < count  # the last run may begin at the end
    offsets = np.append(np.concatenate(places)[has_line], size)
    return _Scan(numbers[has_line], offsets, count, checksum)


def _chunks(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
