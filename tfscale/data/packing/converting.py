"""Converts packed sets and record files to another container or compression, or other shards."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfscale.cli.progress import progress
from tfscale.data.packing.compressed_records import CompressedRecords
from tfscale.data.packing.encoded_sources import EncodedRecords
from tfscale.data.packing.journal import folder_for_pack
from tfscale.data.packing.packed_source import PackedSource, shards
from tfscale.data.packing.plan import Contents, Layout, hashed
from tfscale.data.packing.writing import layout_of, write_set
from tfscale.data.sources.array_record_files import ArrayRecordReader
from tfscale.data.sources.reading import Reader
from tfscale.data.sources.record_files import RecordReader
from tfscale.records.content import Content, examined
from tfscale.records.index import RecordFileError
from tfscale.records.manifest import Feature, Manifest, Shard, read_manifest
from tfscale.records.paths import Files, record_paths
from tfscale.records.processes import Say, each_file


def convert(
    source: Files,
    folder: str | os.PathLike[str],
    *,
    container: str = "tfrecord",
    compression: str | None = "auto",
    num_shards: int | None = None,
    shard_bytes: int | None = None,
    jobs: int = 1,
) -> Manifest:
    """Writes the records of a packed set, or of record files, as another packed set.

    The bytes of every record and their order stay. Interrupted, the same call continues. Files
    without a manifest are read twice, first to count and verify their records; an example of the
    new set is then the bytes of a record.

    Args:
        source: Folder of a packed set; or files, or patterns, of one container and compression.
        folder: Folder of the new set, created if needed. Local.
        container: See `pack`.
        compression: See `pack`.
        num_shards: See `pack`. None, without `shard_bytes`: as many as the source has files.
        shard_bytes: See `pack`.
        jobs: Shards to write at a time. Compressed TFRecord files are read by one thread.

    Returns:
        The manifest of the new set.

    Raises:
        ValueError: If an argument is out of range, a file is damaged or of another container than
            the others, or `folder` contains another set.
        OSError: If a file cannot be read or written.
        ImportError: If the package for a container is not installed.

    Example:
        >>> import numpy as np, tempfile
        >>> from tfscale.data.packing.writing import pack
        >>> one, two = tempfile.mkdtemp(), tempfile.mkdtemp()
        >>> manifest = pack(np.arange(10), one, num_shards=2)
        >>> [shard.file for shard in convert(one, two, container="array_record").shards]
        ['examples-00000.array_record', 'examples-00001.array_record']
    """
    with progress("tfscale data convert") as say:
        old, content = stored_contents(source, jobs=jobs, say=say)
        if num_shards is None and shard_bytes is None:
            num_shards = len(old.shards)
        layout = layout_of(container, compression, num_shards, shard_bytes, old.split)
        with folder_for_pack(folder) as path:
            return write_set(
                path, content, _key(old, content, layout), layout, old.source, jobs=jobs, say=say
            )


def stored_contents(source: Files, *, jobs: int, say: Say) -> tuple[Manifest, Contents]:
    """Returns the manifest of a packed set or of record files, and their records.

    Args:
        source: See `convert`.
        jobs: Processes that read files without a manifest. Positive.
        say: Called with a line of progress every few seconds.

    Returns:
        The manifest, which is in memory only for files without one; and the records as they are.
        Their key is that of the source that was packed.

    Raises:
        ValueError: If a file is damaged, or of another container than the others.
        OSError: If a file cannot be read.
        ImportError: If the package for the container is not installed.
    """
    if isinstance(source, (str, os.PathLike)) and Path(source).is_dir():
        manifest = read_manifest(source)
        paths = [os.fspath(Path(source, shard.file)) for shard in manifest.shards]
        found = shards(source)
        encoded: Any = None
        if isinstance(found, PackedSource):
            encoded = EncodedRecords(found, None)
    else:
        paths = record_paths(source)
        manifest, encoded = _of_files(paths, jobs, say)
    if encoded is None:
        encoded = CompressedRecords(manifest, paths)
    key = manifest.key.partition("-")[0]
    return manifest, Contents(encoded, manifest.class_names, manifest.fingerprint, key)


def _of_files(paths: Sequence[str], jobs: int, say: Say) -> tuple[Manifest, EncodedRecords | None]:
    """Reads files without a manifest, and returns one that is in memory only."""
    found: dict[str, Content] = {}
    for path, result in each_file(examined, paths, jobs=jobs, say=say, done="verified"):
        if isinstance(result, Exception):
            raise result
        if result.problem:
            raise RecordFileError(result.problem)
        found[path] = result
    contents = [found[path] for path in paths]
    formats = {(content.container, content.compression) for content in contents}
    if len(formats) > 1:
        raise ValueError(
            "`source` must be files of one container and compression. Received: "
            f"{', '.join(sorted(' '.join(of).strip() for of in formats))}. Convert each by itself."
        )
    ((container, compression),) = formats
    firsts = itertools.accumulate((content.records for content in contents), initial=0)
    manifest = Manifest(
        container=container,
        compression=compression or None,
        structure="record",
        features=(Feature("record", "string", (), "record"),),
        num_examples=sum(content.records for content in contents),
        split=None,
        class_names=None,
        source=f"{len(paths):,} record files, {Path(paths[0]).name}"
        + (" and others" * (len(paths) > 1)),
        fingerprint=f"records {hashed([content.sha256 for content in contents])}",
        key="",
        shards=tuple(
            Shard(path, first, content.records, content.data_size, content.sha256, "")
            for path, first, content in zip(paths, firsts, contents, strict=False)
        ),
    )
    if compression:
        return manifest, None
    reader: Reader
    if container == "array_record":
        reader = ArrayRecordReader(list(paths), max_group_size=1 << 30)
    else:
        indexes = [content.index for content in contents if content.index is not None]
        reader = RecordReader(list(paths), indexes)
    return manifest, EncodedRecords(PackedSource(manifest, reader), None)


def _key(old: Manifest, content: Contents, layout: Layout) -> str:
    """Returns a key that is not the one of `pack`, which may divide the examples differently."""
    shard_format = (layout.shard_format.container, layout.shard_format.compression)
    hashes = [shard.sha256 for shard in old.shards]
    own = hashed(["converted", *hashes, *shard_format, layout.num_shards, layout.shard_bytes])
    return f"{content.key}-{own}"
