"""Compressed TFRecord files as what `pack` writes: their records stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tfscale.records.content import records_in
from tfscale.records.index import RecordFileError
from tfscale.records.manifest import Manifest


class CompressedRecords:
    """Records of compressed TFRecord files, one after the other: see `EncodedStream`."""

    def __init__(self, manifest: Manifest, paths: Sequence[str]) -> None:
        """Makes records of files.

        Args:
            manifest: Describes the files.
            paths: The files.
        """
        self._shards = list(zip(paths, manifest.shards, strict=True))
        self.num_examples: int | None = manifest.num_examples
        self.structure, self.features = manifest.structure, manifest.features
        self.fingerprint = manifest.fingerprint

    def batches(self, skipped: int) -> Iterator[list[bytes]]:
        """See `EncodedStream`. Files that are skipped as a whole are not read."""
        for path, shard in self._shards:
            if shard.first + shard.examples <= skipped:
                continue
            position = shard.first
            for record in records_in(path):
                if position >= skipped:
                    yield [record]
                position += 1
            if position != shard.first + shard.examples:
                raise RecordFileError(
                    f"{path} has {position - shard.first} records, not {shard.examples}. Restore "
                    "it from its origin."
                )
