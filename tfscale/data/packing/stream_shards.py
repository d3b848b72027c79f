"""Shards of a `tf.data.Dataset`, which is read once and has no random access."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from tfscale.data.packing.compressed_records import CompressedRecords
from tfscale.data.packing.encoded_stream import EncodedStream
from tfscale.data.packing.journal import Journal
from tfscale.data.packing.meter import Meter
from tfscale.data.packing.plan import DEFAULT_SHARD_BYTES, MOST_EXAMPLES, Layout
from tfscale.data.packing.shard_files import write_shard
from tfscale.records.manifest import Shard


def packed_stream(
    folder: Path,
    encoded: EncodedStream | CompressedRecords,
    layout: Layout,
    journal: Journal,
    meter: Meter,
) -> list[Shard]:
    """Writes the shards of a dataset, or of compressed files, one after the other.

    Args:
        folder: Folder of the set.
        encoded: The examples.
        layout: How they are divided.
        journal: What an earlier pack has completed.
        meter: Shows the progress.

    Returns:
        The shards.

    Raises:
        ValueError: If the dataset does not yield what it said, or before the interruption.
        OSError: If a file cannot be written.
    """
    limits = _Limits(layout, encoded.num_examples)
    found: list[Shard] = []
    first, last = 0, ""
    while kept := journal.finished(layout.file(len(found)), first, None):
        found.append(kept[0])
        first, last = first + kept[0].examples, kept[1]
        meter.wrote(kept[0].examples, 0)
    # The last record again, to see that the dataset still yields the same.
    records = _Records(encoded.batches(max(first - 1, 0)))
    if found and (_digest(next(records, b"")) != last):
        raise ValueError(
            "`source` must yield the same examples in every iteration. Received: another example "
            f"{first - 1} than before the interruption. Make it deterministic, and remove {folder}."
        )
    while limits.has_next(len(found)) and (start := next(records, None)) is not None:
        cut = _Cut(start, records, *limits.of(len(found)), meter)
        shard = write_shard(folder, layout.file(len(found)), first, cut, layout.shard_format)
        journal.add(shard, _digest(cut.last))
        found.append(shard)
        first += shard.examples
    limits.check(first, len(found), is_at_end=next(records, None) is None)
    return found


class _Records(Iterator[bytes]):
    """Single records of batches."""

    def __init__(self, batches: Iterator[list[bytes]]) -> None:
        self._records = itertools.chain.from_iterable(batches)

    def __next__(self) -> bytes:
        return next(self._records)


class _Limits:
    """Where the shards of a dataset end."""

    def __init__(self, layout: Layout, num_examples: int | None) -> None:
        self._num_examples, self._shards = num_examples, layout.num_shards
        self._bytes = layout.shard_bytes or DEFAULT_SHARD_BYTES
        if self._shards is not None and num_examples is None:
            raise ValueError(
                "`num_shards` must be None for a tf.data.Dataset whose number of examples is "
                f"unknown, also because of `keep`. Received: num_shards={self._shards}. Pass "
                "shard_bytes, or use Dataset.apply(tf.data.experimental.assert_cardinality(n))."
            )
        if self._shards is not None and self._shards > (num_examples or 0):
            raise ValueError(
                f"`num_shards` must be at most {num_examples}, the number of examples. Received: "
                f"num_shards={self._shards}. Use fewer."
            )

    def has_next(self, number: int) -> bool:
        """Whether there is a shard of a number."""
        return self._shards is None or number < self._shards

    def of(self, number: int) -> tuple[int, int | None]:
        """Returns the most examples of a shard, and its bytes or None for any number."""
        if self._shards is None:
            return MOST_EXAMPLES, self._bytes
        count = self._num_examples or 0
        return count * (number + 1) // self._shards - count * number // self._shards, None

    def check(self, examples: int, shards: int, *, is_at_end: bool) -> None:
        """Raises if the dataset has not yielded what it said."""
        if self._num_examples is not None and (examples, is_at_end) != (self._num_examples, True):
            raise ValueError(
                f"`source` must yield the {self._num_examples} examples of its cardinality. "
                f"Received: {examples if is_at_end else 'more'}. Correct its assert_cardinality."
            )


class _Cut(Iterator[list[bytes]]):
    """The records of one shard of a dataset. It ends before the first that does not belong to it.

    Attributes:
        last: The last record that was taken.
    """

    def __init__(
        self,
        start: bytes,
        records: Iterator[bytes],
        most_examples: int,
        most_bytes: int | None,
        meter: Meter,
    ) -> None:
        self.last = start
        self._next: bytes | None = start
        self._records, self._meter = records, meter
        self._most_examples, self._most_bytes = most_examples, most_bytes
        self._examples = self._bytes = 0

    def __next__(self) -> list[bytes]:
        if self._next is None:
            if self._is_full():
                raise StopIteration
            self._next = next(self._records)
        self.last, self._next = self._next, None
        self._examples += 1
        self._bytes += len(self.last)
        self._meter.wrote(1, len(self.last))
        self._meter.say()
        return [self.last]

    def _is_full(self) -> bool:
        if self._most_bytes is not None and self._bytes >= self._most_bytes:
            return True
        return self._examples >= self._most_examples


def _digest(record: bytes) -> str:
    return hashlib.sha256(record).hexdigest()
