"""What is packed, how it is divided into shards, and the key that tells it from another pack."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data import tfds
from tfscale.data.composition import filtered
from tfscale.data.composition.evaluation import content_of
from tfscale.data.composition.filters import Filtered, Keep
from tfscale.data.composition.function_key import function_key
from tfscale.data.packing.compressed_records import CompressedRecords
from tfscale.data.packing.encoded_sources import (
    EncodedExamples,
    EncodedImages,
    EncodedRecords,
    EncodedSource,
    Preprocess,
    unreadable,
)
from tfscale.data.packing.encoded_stream import EncodedStream
from tfscale.data.packing.packed_source import PackedSource
from tfscale.data.packing.shard_files import ENDINGS, ShardFormat
from tfscale.data.sources import RandomAccessSource, StreamSource, as_source
from tfscale.data.sources.image_folder import ImageFolder

DEFAULT_SHARD_BYTES = 256 << 20
MOST_EXAMPLES = 1 << 20
"""Examples of a shard that is not cut by number. The index of a shard is in memory."""


@dataclass(frozen=True, eq=False)
class Layout:
    """How examples are divided into shards.

    Attributes:
        shard_format: How shards are written.
        num_shards: Number of shards, or None.
        shard_bytes: Bytes of records in a shard before compression, or None.
        split: See `Manifest`.
    """

    shard_format: ShardFormat
    num_shards: int | None
    shard_bytes: int | None
    split: str | None

    def file(self, number: int) -> str:
        """Returns the name of a shard."""
        return f"{self.split or 'examples'}-{number:05}{ENDINGS[self.shard_format.container]}"

    def bounds(self, encoded: EncodedSource) -> list[int]:
        """Returns the first example of each shard, and the number of all examples."""
        count = encoded.num_examples
        if self.num_shards is not None:
            return [count * number // self.num_shards for number in range(self.num_shards + 1)]
        return balanced(*encoded.sizes(), self.shard_bytes or DEFAULT_SHARD_BYTES)


def balanced(bounds: np.ndarray, means: np.ndarray, shard_bytes: int) -> list[int]:
    """Divides examples into shards of equal bytes, as far as their sizes are known.

    Args:
        bounds: See `EncodedSource.sizes`.
        means: See `EncodedSource.sizes`.
        shard_bytes: Most bytes of a shard, except that it has an example. Positive.

    Returns:
        The first example of each shard, and the number of all examples.

    Example:
        >>> balanced(np.array([0, 4, 8]), np.array([10.0, 30.0]), 40)
        [0, 4, 5, 7, 8]
    """
    sizes = np.concatenate([[0.0], np.cumsum(np.diff(bounds) * means)])
    count = int(bounds[-1])
    shards = int(max(1, np.ceil(sizes[-1] / shard_bytes), np.ceil(count / MOST_EXAMPLES)))
    shards = min(count, shards)
    cuts = np.rint(np.interp(sizes[-1] * np.arange(shards + 1) / shards, sizes, bounds))
    # At least one example each: cut k is between k and count - (shards - k).
    numbers = np.arange(shards + 1)
    cuts = np.maximum.accumulate(np.maximum(cuts.astype(np.int64) - numbers, 0)) + numbers
    return np.minimum(cuts, count - shards + numbers).tolist()  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Contents:
    """The examples of a set.

    Attributes:
        encoded: Their records.
        class_names: See `Manifest`.
        fingerprint: See `Manifest`.
        key: Hash of the examples, or "" if a function has no stable hash.
    """

    encoded: EncodedSource | EncodedStream | CompressedRecords
    class_names: tuple[str, ...] | None
    fingerprint: str
    key: str


def contents(
    source: Any,
    *,
    keep: Keep | None = None,
    preprocess: Preprocess | None = None,
    version: str | None = None,
    class_names: Sequence[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> Contents:
    """Returns the examples that `pack` writes. Its arguments are described there."""
    found, names = _source(source, data_dir)
    keys = _function_keys([keep, preprocess], version)
    encoded: EncodedSource | EncodedStream
    if isinstance(found, RandomAccessSource):
        content = content_of(found)
        if keep is not None:
            try:
                found = filtered(found, keep, version=version)
            except tf.errors.OpError as error:
                raise unreadable("The source, to evaluate `keep`,", error) from error
        fingerprint = found.fingerprint
        encoded = _encoded(found, preprocess)
        names = names or getattr(_unfiltered(found)[0], "class_names", None)
    else:
        encoded = EncodedStream(found.dataset, keep, preprocess)
        fingerprint = encoded.fingerprint
        content = [fingerprint]
    described = [dataclasses.asdict(feature) for feature in encoded.features]
    key = "" if keys is None else hashed([*content, *keys, encoded.structure, described])
    return Contents(encoded, tuple(class_names or names or ()) or None, fingerprint, key)


def hashed(parts: Any) -> str:
    """Returns a hash of what JSON can express."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _source(source: Any, data_dir: Any) -> tuple[RandomAccessSource | Stream, Sequence[str] | None]:
    """Returns a source, and the names of the classes of a TFDS dataset."""
    if isinstance(source, str):
        name, split = tfds.parse_name(source)
        builder = tfds.find_builder(name, data_dir=data_dir and os.fspath(data_dir))
        # Not as arrays, which would take the memory of the whole set.
        dataset = tfds.image_source(builder, split, limit_bytes=0)
        label = builder.info.features[builder.info.supervised_keys[1]]
        return Stream(dataset), getattr(label, "names", None)
    if isinstance(source, tf.data.Dataset):
        return Stream(source), None
    found = as_source(source, data_dir=data_dir)
    return (Stream(found.dataset) if isinstance(found, StreamSource) else found), None


@dataclass(frozen=True, eq=False)
class Stream:
    """A dataset, of known or unknown cardinality."""

    dataset: tf.data.Dataset


def _function_keys(functions: Sequence[Any], version: str | None) -> list[str] | None:
    """Returns text that differs if a function does, or None if that cannot be known."""
    if version is not None:
        return [f"version {version}", *(str(function is not None) for function in functions)]
    keys = [function_key(function) if function else "none" for function in functions]
    return None if None in keys else [key or "" for key in keys]


def _encoded(source: RandomAccessSource, preprocess: Preprocess | None) -> EncodedSource:
    base, kept = _unfiltered(source)
    if preprocess is None and isinstance(base, ImageFolder):
        return EncodedImages(base if kept is None else base.subset(kept))
    if preprocess is None and isinstance(base, PackedSource):
        return EncodedRecords(base, kept)
    return EncodedExamples(source, preprocess)


def _unfiltered(source: RandomAccessSource) -> tuple[RandomAccessSource, np.ndarray | None]:
    """Returns a source below filters, and the indices that they keep."""
    kept: np.ndarray | None = None
    while isinstance(source, Filtered):
        own = source.kept.numpy()
        kept = own if kept is None else own[kept]
        (source,) = source.parts
    return source, kept
