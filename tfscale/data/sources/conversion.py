"""What `input_pipeline` accepts as `source`, converted to a source."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf

from tfscale.data.sources.arrays import array_source
from tfscale.data.sources.indexed import indexed, is_indexed
from tfscale.data.sources.random_access import RandomAccessSource
from tfscale.data.sources.stream import StreamSource, known_cardinality
from tfscale.data.tfds import image_source

Source = RandomAccessSource | StreamSource


def as_source(source: Any, *, data_dir: str | os.PathLike[str] | None = None) -> Source:
    """Converts the `source` argument of `input_pipeline`.

    Args:
        source: Arrays in nested tuples, lists or dicts: `np.ndarray`, `tf.Tensor`,
            `tf.RaggedTensor`, or other objects that NumPy converts to arrays. Or a source of this
            package, an unbatched `tf.data.Dataset` with a known cardinality, a dataset that
            `indexed` reads, or a TFDS name, "mnist" or "mnist:test".
        data_dir: Folder of prepared TFDS datasets; only for a name.

    Raises:
        ValueError: If the arrays differ in length or are empty, TensorFlow does not support their
            type, the number of examples is unknown, or `data_dir` is passed without a name.

    Example:
        >>> as_source({"image": np.zeros([5, 8, 8]), "label": np.arange(5)}).num_examples
        5
    """
    if isinstance(source, str):
        folder = None if data_dir is None else os.fspath(data_dir)
        source = image_source(source, data_dir=folder)
    elif data_dir is not None:
        raise ValueError(
            "`data_dir` must be None unless `source` is a TFDS name. Received: "
            f"data_dir={data_dir!r} with a {type(source).__name__}. Omit it."
        )
    if isinstance(source, RandomAccessSource | StreamSource):
        return source
    if isinstance(source, tf.data.Dataset):
        return StreamSource(source, known_cardinality(source))
    return indexed(source) if is_indexed(source) else array_source(source)
