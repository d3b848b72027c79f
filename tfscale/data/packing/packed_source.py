"""A packed set as a source."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from tfscale.data.packing.decoding import has_images, images_decoded, parsed
from tfscale.data.packing.shard_files import ENDINGS
from tfscale.data.remote import is_remote, local_set
from tfscale.data.sources.array_record_files import ArrayRecordReader
from tfscale.data.sources.reading import Reader, ReadSource
from tfscale.data.sources.record_files import RecordReader, file_indexes
from tfscale.records.index import RecordFileError
from tfscale.records.manifest import NAME, Manifest, Shard, read_manifest, shard_fingerprint

# Records of a compressed set that are parsed together.
_PARSED_ROWS = 64


def shards(
    folder: str | os.PathLike[str], *, index_dir: str | os.PathLike[str] | None = None
) -> PackedSource | tf.data.Dataset:
    """Returns what `pack` wrote, with the structure, types and values of what was packed.

    An uncompressed TFRecord set and an ArrayRecord set have random access, and are a source: every
    epoch is a permutation of all examples, and a worker reads only its own.

    A TFRecord set with GZIP or ZLIB has none, and is a `tf.data.Dataset`, whose number of examples
    is known. `input_pipeline` shuffles it within a window only, every worker reads all of it, it
    resumes by reading the examples before, and it cannot be filtered with `filtered`, mixed, packed
    or bucketed. ArrayRecord with zstd is compressed and has random access.

    The shards are compared with the manifest: names, sizes, and a fingerprint; `tfscale data
    inspect` reads them completely. Every record is compared with its checksum when it is read.

    Args:
        folder: Folder of the set. The files of a remote one, such as "s3://bucket/set", are copied
            first: see `local_copies`.
        index_dir: Folder for missing indexes of TFRecord files, if the set's folder cannot be
            written. See `record_files`.

    Returns:
        A source with the attributes `manifest`, `class_names` and `split`, or a `tf.data.Dataset`
        of single examples.

    Raises:
        ValueError: If there is no complete set, or shards are missing, wrong, or not in the
            manifest. A step that reads a damaged record raises `tf.errors.InvalidArgumentError`,
            which names the file and the record, or `tf.errors.DataLossError` for a compressed set.
        OSError: If a file cannot be read.
        ImportError: If the package for the container is not installed.

    Example:
        >>> import numpy as np, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> arrays = {"x": np.arange(10), "y": np.eye(10)}
        >>> manifest = tfscale.data.pack(arrays, folder, num_shards=2)
        >>> source = shards(folder)
        >>> source.num_examples, source.take(tf.constant([7, 3], tf.int64))["x"].numpy()
        (10, array([7, 3]))
    """
    if is_remote(os.fspath(folder)):
        folder = local_set(os.fspath(folder), NAME, _shards_of)
    manifest = read_manifest(folder)
    names = _files(folder, manifest)
    paths = [os.fspath(Path(folder, shard.file)) for shard in manifest.shards]
    wrong = [
        f"{shard.file} is missing" if shard.file not in names else _wrong_size(shard, path)
        for shard, path in zip(manifest.shards, paths, strict=True)
    ]
    known = {shard.file for shard in manifest.shards}
    wrong += [f"{name} is not in the manifest" for name in sorted(names - known)]
    _refuse(folder, wrong)
    reader: Reader
    if manifest.container == "array_record":
        _refuse(folder, _wrong_fingerprints(manifest, [_fingerprint(manifest, p) for p in paths]))
        reader = ArrayRecordReader(paths, max_group_size=1)
    elif manifest.compression is None:
        indexes = file_indexes(paths, index_dir)
        _refuse(folder, _wrong_fingerprints(manifest, [index.digest for index in indexes]))
        reader = RecordReader(paths, indexes)
    else:
        _refuse(folder, _wrong_fingerprints(manifest, [_fingerprint(manifest, p) for p in paths]))
        return _stream(manifest, paths)
    return PackedSource(manifest, reader)


class PackedSource(ReadSource):
    """A packed set with random access: what `shards` returns.

    Attributes:
        manifest: The manifest of the set.
        class_names: Names of the classes, in the order of their numbers, or None.
        split: What part of the data this is, such as "train", or None.
    """

    def __init__(self, manifest: Manifest, reader: Reader) -> None:
        """See `shards`."""
        self.manifest = manifest
        self.class_names, self.split = manifest.class_names, manifest.split
        decode = None
        if has_images(manifest):
            decode = lambda example: images_decoded(example, manifest)  # noqa: E731
        super().__init__(reader, decode, parse=lambda records: parsed(records, manifest))


def _stream(manifest: Manifest, paths: list[str]) -> tf.data.Dataset:
    records = tf.data.TFRecordDataset(paths, compression_type=manifest.compression)
    examples = records.batch(_PARSED_ROWS).map(
        lambda batch: (parsed(batch, manifest),), num_parallel_calls=2, deterministic=True
    )
    examples = examples.unbatch().map(
        lambda example: images_decoded(example, manifest),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    count = tf.data.experimental.assert_cardinality(manifest.num_examples)
    return examples.apply(count)


def _shards_of(folder: str) -> list[str]:
    return [shard.file for shard in read_manifest(folder).shards]


def _files(folder: str | os.PathLike[str], manifest: Manifest) -> set[str]:
    """Returns the names of the files that are like shards."""
    ending = ENDINGS[manifest.container]
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries}
    return {name for name in names if name.endswith(ending) and not name.startswith(".")}


def _wrong_size(shard: Shard, path: str) -> str:
    size = Path(path).stat().st_size
    return "" if size == shard.bytes else f"{shard.file} has {size} bytes, not {shard.bytes}"


def _fingerprint(manifest: Manifest, path: str) -> str:
    try:
        return shard_fingerprint(path, manifest.container, manifest.compression)
    except RecordFileError:
        return ""


def _wrong_fingerprints(manifest: Manifest, found: list[str]) -> list[str]:
    files = {shard.fingerprint: shard.file for shard in manifest.shards}
    return [
        f"{shard.file} has the content of {files[fingerprint]}"
        if fingerprint in files
        else f"{shard.file} has other content"
        for shard, fingerprint in zip(manifest.shards, found, strict=True)
        if shard.fingerprint != fingerprint
    ]


def _refuse(folder: str | os.PathLike[str], wrong: list[str]) -> None:
    wrong = [problem for problem in wrong if problem]
    if not wrong:
        return
    more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    raise ValueError(
        "`folder` must contain the shards of its manifest, unchanged. Received: "
        f"{os.fspath(folder)!r}: {'; '.join(wrong[:5])}{more}. Run `tfscale data inspect "
        f"{os.fspath(folder)}`, which says what can be repaired."
    )
