"""A source whose decoded examples are kept in memory or in a folder.

train = tfscale.data.cached(tfscale.data.image_folder("flowers"), "/local/cache")
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from strategies.extension import number, text, whole_number
from tfscale.data.cache.content_key import code_key, content_key
from tfscale.data.cache.filling import fill, sampled_rows
from tfscale.data.cache.folder import CacheFolder
from tfscale.data.cache.row_format import RowFormat
from tfscale.data.cache.stored_rows import MemorySink, Sink, StoredRows
from tfscale.data.composition.mixtures import Mixture
from tfscale.data.composition.requirements import batch_spec, one_order, random_access
from tfscale.data.python_calls import call_python
from tfscale.data.sources import ArraySource, RandomAccessSource
from tfscale.files.room import SHARE, free_disk, free_memory, is_in_memory, megabytes

MEMORY = "memory"
_FORMAT = 1
# Sizes of rows are estimated from this many, if they differ.
_SIZE_SAMPLES = 64
# Examples of an existing cache that are compared with the source at a start.
_COMPARED = 32
_CHECKSUM_BYTES, _OFFSET_BYTES = 4, 8
_RELATIVE_TOLERANCE = 1e-3


def cached(
    source: Any,
    where: str | os.PathLike[str],
    *,
    budget_bytes: int | None = None,
    version: str | None = None,
    deadline_seconds: float = 3600.0,
) -> RandomAccessSource:
    """Keeps the decoded examples of a source, so that they are read and decoded once.

    The order of examples, and so every batch, is the same as without the cache. All examples are
    read when the cache is made, several batches at a time, with a line of progress. Keep what
    `preprocess` makes, a snapshot, with `cached(mapped(source, preprocess), where)`. Arrays are in
    memory already, so "memory" returns them unchanged. A mixture becomes a mixture of its cached
    sources.

    In a folder a cache is found by a key: a hash of the source, all values of arrays, functions
    that decode or map, and the version of TensorFlow. If one of them changes, another
    cache is made; existing ones are named with their sizes, and are yours to delete. At every start
    32 examples are compared with the source. Each row has a checksum, which is compared whenever
    the row is read. A cache appears under its name when it is complete, so a process that was
    killed leaves nothing that is mistaken for one. Of several processes on a host, or on hosts that
    share the folder, one fills the cache and the others wait; if it dies, another one takes over.

    Args:
        source: The examples: a source of `tfscale.data`, or arrays.
        where: "memory" for the memory of this process, or a local folder. Workers on one host have
            a copy each in "memory", and share one in a folder, such as "/dev/shm/cache", which is
            in memory, too.
        budget_bytes: Most bytes that the cache may take; for a mixture, that of each source. None:
            90% of what is free in the folder, or of the memory that the system and the limit of its
            container leave. It is checked before the examples are read, with an estimate if they
            differ in size.
        version: Text that you change whenever a function that decodes or maps changes. None: a hash
            of these functions. A class of your own behind `indexed`, or a reader of your own, has
            none: pass a version.
        deadline_seconds: Longest wait for another process that fills the folder. Not negative.

    Returns:
        A source.

    Raises:
        ValueError: If the budget or what is free does not suffice, `source` is bucketed, a function
            has no stable hash and `version` is None, an example cannot be read, or the examples of
            an existing cache differ from those of the source. A step that reads a damaged row
            raises `tf.errors.InvalidArgumentError`.
        OSError: If the folder cannot be written or read.
        TimeoutError: If another process has not filled the cache by the deadline.

    Example:
        >>> squares = tfscale.data.mapped(tf.range(4), lambda x: x * x)
        >>> source = cached(squares, "memory")
        >>> source.take(tf.constant([3, 0], tf.int64)).numpy().tolist()
        [9, 0]
    """
    if budget_bytes is not None:
        whole_number("budget_bytes", budget_bytes, cure="Pass bytes, such as 10 * 2**30.")
    if version is not None:
        text("version", version)
    rule, cure = "finite and not negative", "Pass seconds, for instance 3600."
    number("deadline_seconds", deadline_seconds, rule, lambda s: s >= 0, cure=cure)
    place = os.fspath(where) if isinstance(where, (str, os.PathLike)) else ""
    is_misspelt = place.lower() == MEMORY and place != MEMORY
    if "://" in place or not place or is_misspelt:
        raise ValueError(
            f'`where` must be "memory" or a local folder. Received: where={where!r}. A '
            "folder may be './cache'; remote files are slower than decoding."
        )
    examples = random_access(source)
    if isinstance(examples, Mixture):
        return examples.with_parts(
            cached(
                part,
                where,
                budget_bytes=budget_bytes,
                version=version,
                deadline_seconds=deadline_seconds,
            )
            for part in examples.parts
        )
    examples = one_order(examples, "cached", "Cache the source before it is bucketed.")
    if isinstance(examples, ArraySource) and place == MEMORY:
        return examples
    row_format = RowFormat(batch_spec(examples))
    if place == MEMORY:
        rows = _in_memory(examples, row_format, budget_bytes)
    else:
        rows = _in_folder(
            examples, row_format, Path(place), budget_bytes, version, deadline_seconds
        )
    return CachedSource(examples, row_format, rows)


class CachedSource(RandomAccessSource):
    """Examples of a source, read from a cache.

    Attributes:
        size: Bytes of the cache.
    """

    def __init__(self, source: RandomAccessSource, row_format: RowFormat, rows: StoredRows) -> None:
        self.parts = (source,)
        self.num_examples = source.num_examples
        # That of the source: a checkpoint continues with and without a cache.
        self.fingerprint = source.fingerprint
        self.size = rows.size
        self._format, self._rows = row_format, rows

    def take(self, indices: tf.Tensor) -> Any:
        """Returns the examples at `indices`, int64 [n], as the source does."""
        tensors = call_python(self._read, [indices], self._format.dtypes)
        return self._format.batch(tensors, indices.shape[0])

    def _read(self, indices: np.ndarray) -> list[np.ndarray]:
        return self._format.arrays(self._rows.read(indices))


def _in_memory(
    source: RandomAccessSource, row_format: RowFormat, budget_bytes: int | None
) -> StoredRows:
    check_size = _room_for(source, row_format, MEMORY, budget_bytes, free_memory())
    sink = MemorySink(source.num_indices, row_format.header_bytes, has_blocks=row_format.has_blocks)
    fill(source, row_format, sink, name="in memory", check_size=check_size)
    return sink.stored()


def _in_folder(
    source: RandomAccessSource,
    row_format: RowFormat,
    where: Path,
    budget_bytes: int | None,
    version: str | None,
    deadline_seconds: float,
) -> StoredRows:
    cache = CacheFolder(
        where,
        _key(source, row_format, version),
        source.fingerprint,
        source.num_indices,
        row_format.header_bytes,
        row_format.has_blocks,
    )
    rows = cache.open()
    if rows is not None:
        _compare(source, row_format, rows, cache.path)
        return rows
    cache.require_writable()

    def fill_files(sink: Sink) -> None:
        free = [free_disk(where), free_memory() if is_in_memory(where) else None]
        least = min(size for size in free if size is not None)
        check_size = _room_for(source, row_format, str(where), budget_bytes, least)
        fill(source, row_format, sink, name=str(cache.path), check_size=check_size)

    is_own = cache.make(fill_files, deadline_seconds=deadline_seconds)
    rows = cache.open()
    if rows is None:
        raise OSError(f"The cache {cache.path} was removed while it was opened. Start again.")
    if not is_own:
        _compare(source, row_format, rows, cache.path)
    return rows


def _key(source: RandomAccessSource, row_format: RowFormat, version: str | None) -> str:
    code = code_key(source) if version is None else [f"version {version}"]
    if code is None:
        raise ValueError(
            "`version` must be a text if a function that decodes or maps examples has no stable "
            "hash, for instance because it uses an object of your own class. Received: "
            'version=None. Pass version="1", and another one whenever such a function changes; or '
            'cache in "memory".'
        )
    parts = [_FORMAT, content_key(source), code, repr(row_format.spec), tf.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _room_for(
    source: RandomAccessSource,
    row_format: RowFormat,
    where: str,
    budget_bytes: int | None,
    free: int | None,
) -> Callable[[int], None]:
    """Checks that there is room for all examples. Returns what checks the bytes that are written.

    Raises:
        ValueError: If there is not.
    """
    count = source.num_indices
    row_bytes = float(row_format.header_bytes)
    if row_format.has_blocks:
        sample = np.unique(np.linspace(0, count - 1, min(count, _SIZE_SAMPLES), dtype=np.int64))
        found = sampled_rows(source, row_format, sample)
        row_bytes = sum(len(rows.data) for rows in found) / len(found)
    beside = 0 if where == MEMORY else _CHECKSUM_BYTES
    beside += _OFFSET_BYTES if row_format.has_blocks else 0
    needed = int(count * (row_bytes + beside))
    fits = None if free is None else int(free * SHARE)
    limits = [size for size in (budget_bytes, fits) if size is not None]
    about = "about " if row_format.has_blocks else ""
    examples = f"{count:,} examples of {about}{row_bytes:,.0f} bytes"

    def check(size: int, taken: str = "") -> None:
        if not limits or size <= min(limits):
            return
        if budget_bytes is not None and budget_bytes == min(limits):
            raise ValueError(
                f"`budget_bytes` must be at least {about}{max(size, needed):,} "
                f"({megabytes(max(size, needed))}) for {examples}. Received: "
                f"budget_bytes={budget_bytes}{taken}. Raise it, or cache fewer examples, for "
                "instance those of `filtered`."
            )
        assert free is not None
        kind = "memory" if where == MEMORY else "disk space"
        raise ValueError(
            f"`where` must have {about}{megabytes(max(size, needed) / SHARE)} of free {kind} for "
            f"{examples}. Received: where={where!r} with {megabytes(free)} free{taken}. Free some, "
            f"pass {'a folder' if where == MEMORY else 'another folder'}, or cache fewer or "
            "smaller examples."
        )

    check(needed)
    return lambda size: check(size, ", which the first examples exceed already")


def _compare(
    source: RandomAccessSource, row_format: RowFormat, rows: StoredRows, path: Path
) -> None:
    """Compares some examples, which are other ones at every start, with those of the source.

    Raises:
        ValueError: If they differ.
    """
    count = source.num_indices
    sample = np.random.default_rng().choice(count, min(count, _COMPARED), replace=False)
    for index, found in zip(sample, sampled_rows(source, row_format, sample), strict=True):
        kept = row_format.arrays(rows.read(np.array([index])))
        if not all(map(_are_close, row_format.arrays(found), kept)):
            raise ValueError(
                f"`source` must have the examples that {path} has under its key. Received: a "
                f"source whose example {index} differs. If a file or a function changed in a way "
                "that its key does not show, pass another `version` or delete this folder. If a "
                "function is random, make its result depend on the example only."
            )


def _are_close(found: np.ndarray, kept: np.ndarray) -> bool:
    if found.shape != kept.shape:
        return False
    if not np.issubdtype(found.dtype, np.inexact):
        return bool((found == kept).all())
    # A batch of another size may be summed in another order.
    scale = float(np.nanmax(np.abs(kept), initial=0.0))
    return np.allclose(
        found, kept, _RELATIVE_TOLERANCE, _RELATIVE_TOLERANCE * scale, equal_nan=True
    )
