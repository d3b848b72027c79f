"""Record files for tests: written by TensorFlow, and taken apart by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf


def write(path: Path, records: Sequence[bytes]) -> Path:
    """Writes a TFRecord file with TensorFlow."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def read(path: Path) -> list[bytes]:
    """Reads a TFRecord file with TensorFlow, which checks the checksums."""
    return [record.numpy() for record in tf.data.TFRecordDataset(str(path))]


def pieces(content: bytes) -> list[bytes]:
    """Cuts the content of an undamaged file into its records, with lengths and checksums."""
    found, start = [], 0
    while start < len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        found.append(content[start : start + length + 16])
        start += length + 16
    return found
