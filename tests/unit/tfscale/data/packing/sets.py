"""What the tests of packed sets compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data import RandomAccessSource
from tfscale.data.sources import as_source

CONTAINERS = [
    ("tfrecord", None),
    ("tfrecord", "GZIP"),
    ("tfrecord", "ZLIB"),
    ("array_record", "zstd"),
    ("array_record", None),
]


def all_of(source: Any) -> Any:
    """All examples of a source or a dataset, as one batch."""
    if isinstance(source, tf.data.Dataset):
        count = int(source.cardinality())
        (batch,) = source.ragged_batch(count)
        return batch
    found = as_source(source)
    assert isinstance(found, RandomAccessSource)
    return found.take(tf.range(found.num_examples, dtype=tf.int64))


def assert_same(found: Any, expected: Any) -> None:
    """Compares structures of tensors: structure, types, shapes and bits."""
    tf.nest.assert_same_structure(found, expected, expand_composites=False)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        assert tf.as_dtype(one.dtype) == tf.as_dtype(other.dtype)
        assert isinstance(one, tf.RaggedTensor) == isinstance(other, tf.RaggedTensor)
        if isinstance(one, tf.RaggedTensor):
            np.testing.assert_array_equal(one.row_lengths(), other.row_lengths())
            one, other = one.values, other.values
        assert one.shape == other.shape
        if one.dtype == tf.string:
            assert np.asarray(one).tolist() == np.asarray(other).tolist()
        else:
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files in a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
