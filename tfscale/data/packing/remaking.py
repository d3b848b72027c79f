"""Makes lost shards of a packed set again, from what it was packed from."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tfscale.data.packing.compressed_records import CompressedRecords
from tfscale.data.packing.encoded_stream import EncodedStream
from tfscale.data.packing.journal import folder_for_pack
from tfscale.data.packing.plan import Contents
from tfscale.data.packing.shard_files import ShardFormat, not_written, write_shard
from tfscale.files import reason
from tfscale.records.index import index_path
from tfscale.records.manifest import Manifest, Shard

_FOLDER = ".repair"


class SourceChangedError(ValueError):
    """A source does not contain the examples that were packed."""


def remake(
    folder: str | os.PathLike[str],
    manifest: Manifest,
    files: Sequence[str],
    content: Contents,
    *,
    say: Callable[[str], None],
) -> None:
    """Writes shards again. Each replaces its file once its bytes are those of the manifest.

    Args:
        folder: Folder of the set.
        manifest: Its manifest.
        files: The shards to write, in the order of the manifest.
        content: The examples, prepared as they were when they were packed.
        say: Called with a line for each shard.

    Raises:
        SourceChangedError: If the source, or what is done with it, is another one. Shards that were
            remade before it was noticed stay.
        ValueError: If an example cannot be read.
        OSError: If a file cannot be read or written.
    """
    if not files:
        return
    _check(manifest, content)
    shards = [shard for shard in manifest.shards if shard.file in set(files)]
    shard_format = ShardFormat(manifest.container, manifest.compression)
    with folder_for_pack(folder) as path:
        apart = path / _FOLDER
        try:
            shutil.rmtree(apart, ignore_errors=True)  # of a repair that was killed
            apart.mkdir()
        except OSError as error:
            raise not_written(apart, reason(error)) from error
        try:
            for shard, batches in _batches(content, shards):
                changed = SourceChangedError(
                    f"{path / shard.file} cannot be made from this source: its examples "
                    f"{shard.first} to {shard.first + shard.examples - 1} are not those that were "
                    f"packed from {manifest.source}. The file was not changed. Pass the unchanged "
                    "source and the same functions, or pack the set again."
                )
                records = _counted(batches, shard.examples, changed)
                made = write_shard(apart, shard.file, shard.first, records, shard_format)
                if made.sha256 != shard.sha256:
                    raise changed
                _move(apart, path, shard.file)
                say(f"{shard.file} was made again: {shard.examples:,} examples, the same bytes")
        finally:
            shutil.rmtree(apart, ignore_errors=True)


def _check(manifest: Manifest, content: Contents) -> None:
    """Refuses another source before its examples are read."""
    packed = manifest.key.partition("-")[0]
    count = content.encoded.num_examples
    is_other = bool(packed and content.key) and packed != content.key
    if is_other or count not in (None, manifest.num_examples):
        raise SourceChangedError(
            "`source` must be what was packed, with the same functions: "
            f"{manifest.source}, {manifest.num_examples:,} examples, {manifest.fingerprint}. "
            f"Received: {'an unknown number of' if count is None else f'{count:,}'} examples, "
            f"{content.fingerprint}. Pass the unchanged source, or pack the set again."
        )


def _batches(
    content: Contents, shards: Sequence[Shard]
) -> Iterator[tuple[Shard, Iterator[list[bytes]]]]:
    """Yields each shard with its records."""
    encoded = content.encoded
    if not isinstance(encoded, (EncodedStream, CompressedRecords)):
        for shard in shards:
            yield shard, encoded.batches(shard.first, shard.first + shard.examples)
        return
    # A stream is read once, from the first lost shard on.
    position = shards[0].first
    records = itertools.chain.from_iterable(encoded.batches(position))
    for shard in shards:
        skipped = itertools.islice(records, shard.first - position)
        for _ in skipped:
            pass
        found = itertools.islice(records, shard.examples)
        yield shard, ([record] for record in found)
        position = shard.first + shard.examples


def _counted(
    batches: Iterator[list[bytes]], examples: int, otherwise: SourceChangedError
) -> Iterator[list[bytes]]:
    """Yields batches, and raises at their end if they have another number of examples."""
    for records in batches:
        yield records
        examples -= len(records)
    if examples:
        raise otherwise


def _move(apart: Path, folder: Path, file: str) -> None:
    """Moves a shard into its place, and its index, if it has one, after it."""
    for name in (file, index_path(file).name):
        if (apart / name).exists():
            try:
                (apart / name).replace(folder / name)
            except OSError as error:
                raise not_written(folder / name, reason(error)) from error
