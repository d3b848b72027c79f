"""Packs a source: examples as records in shards, with a manifest that is written last."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from strategies.extension import function, one_of, sequence, text, whole_number
from tfscale.cli.progress import progress
from tfscale.data.composition.filters import Keep
from tfscale.data.packing.compressed_records import CompressedRecords
from tfscale.data.packing.encoded_sources import PIECE_BYTES, EncodedSource, Preprocess
from tfscale.data.packing.encoded_stream import EncodedStream
from tfscale.data.packing.journal import Journal, folder_for_pack
from tfscale.data.packing.meter import Meter
from tfscale.data.packing.plan import DEFAULT_SHARD_BYTES, Contents, Layout, contents, hashed
from tfscale.data.packing.shard_files import ShardFormat, write_shard
from tfscale.data.packing.stream_shards import packed_stream
from tfscale.data.sources import RandomAccessSource
from tfscale.data.sources.image_folder import ImageFolder
from tfscale.records.manifest import COMPRESSIONS, Manifest, Shard, write_manifest

_MEMORY_BYTES = 320 << 20
"""What all jobs may take together."""
_VERSION = 1
"""Part of every key: a change of the bytes needs another one."""


def pack(
    source: Any,
    folder: str | os.PathLike[str],
    *,
    container: str = "tfrecord",
    compression: str | None = "auto",
    num_shards: int | None = None,
    shard_bytes: int | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    keep: Keep | None = None,
    preprocess: Preprocess | None = None,
    version: str | None = None,
    jobs: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    description: str | None = None,
) -> Manifest:
    """Packs examples into a few large files, which `shards` reads.

    Examples are `tf.train.Example` records, without loss for every type, so other programs read
    them too. Images of `image_folder` are packed as the files that they are, each decoded once to
    see that it is whole; `shards` decodes them to the same pixels. With a `preprocess` function,
    what it returns is packed instead.

    An interrupted pack leaves no manifest. The same call continues it: shards that are complete are
    compared with their checksums and kept, and the result has the same bytes as without the
    interruption, for any number of `jobs`. A folder that contains anything else is refused.

    A `tf.data.Dataset` must yield the same examples in every iteration. It is read by one thread;
    other sources by `jobs` threads. All jobs together take less than 500 MB of memory, besides
    what TensorFlow and the source take: there are fewer of them if examples are large.

    Args:
        source: What `input_pipeline` takes: arrays, a source of `tfscale.data`, a TFDS name, or an
            unbatched `tf.data.Dataset`, which here may have an unknown cardinality.
        folder: Folder of the set, created if needed. Local.
        container: "tfrecord", or "array_record", which has random access also if it is compressed.
        compression: None, "GZIP" or "ZLIB" for tfrecord; "zstd" or None for array_record. "auto" is
            None for tfrecord and "zstd" for array_record. TFRecord files with compression have no
            random access.
        num_shards: Number of shards, with equal numbers of examples. At most the number of
            examples. None: see `shard_bytes`.
        shard_bytes: Bytes of records in a shard before compression. Shards of a source with random
            access have about equal sizes, by a sample of the examples; of a dataset all but the
            last. The default is 256 MiB. Such a shard has at most about a million examples.
        split: What part of the data this is, such as "train"; it names the files.
        class_names: Names of the classes, in the order of their numbers. None: those of the source.
        keep: Maps a batch of n examples to bool [n], which examples to pack. Traced.
        preprocess: Maps a batch to a batch with as many rows, such as resized images. Traced.
        version: Text that you change whenever `keep` or `preprocess` changes, or None for the hash
            of the functions. See `filtered`.
        jobs: Most shards to write at a time. None: as many as this process may use processors.
        data_dir: Folder of prepared TFDS datasets, for a source given by name.
        description: What the manifest says about the source. None: its class and fingerprint.

    Returns:
        The manifest.

    Raises:
        ValueError: If an argument is out of range, examples cannot be stored or read, or `folder`
            contains another set.
        OSError: If a file cannot be read or written, for instance because the disk is full.
        ImportError: If the package for the container is not installed.

    Example:
        >>> import numpy as np, tempfile
        >>> manifest = pack((np.eye(4), np.arange(4)), tempfile.mkdtemp(), num_shards=2)
        >>> [(shard.file, shard.examples) for shard in manifest.shards]
        [('examples-00000.tfrecord', 2), ('examples-00001.tfrecord', 2)]
    """
    layout = layout_of(container, compression, num_shards, shard_bytes, split)
    jobs = _jobs() if jobs is None else whole_number("jobs", jobs, cure="Count shards.")
    for name, given in (("keep", keep), ("preprocess", preprocess)):
        if given is not None:
            function(name, given)
    for name, words in (("version", version), ("description", description)):
        if words is not None:
            text(name, words)
    for words in () if class_names is None else sequence("class_names", class_names):
        text("class_names", words)
    _refuse_inside(source, folder)
    with folder_for_pack(folder) as path, progress("tfscale data pack") as say:
        content = contents(
            source,
            keep=keep,
            preprocess=preprocess,
            version=version,
            class_names=class_names,
            data_dir=data_dir,
        )
        key = content.key and f"{content.key}-{_layout_key(layout, content)}"
        described = description or _description(source, content.fingerprint)
        return write_set(path, content, key, layout, described, jobs=jobs, say=say)


def write_set(
    folder: Path,
    content: Contents,
    key: str,
    layout: Layout,
    description: str,
    *,
    jobs: int,
    say: Callable[[str], None],
) -> Manifest:
    """Writes a set, or the rest of it, into a folder that `folder_for_pack` keeps.

    Args:
        folder: The folder.
        content: The examples.
        key: See `Manifest`.
        layout: How they are divided and written.
        description: See `Manifest`, `source`.
        jobs: Shards to write at a time. Positive.
        say: Called with a line of progress every few seconds.

    Returns:
        The manifest, which is on disk.

    Raises:
        ValueError: If an example cannot be read, or the folder contains something else.
        OSError: If a file cannot be read or written.
    """
    journal = Journal(folder, key, layout.shard_format)
    if journal.complete is not None:
        return journal.complete
    meter = Meter(content.encoded.num_examples, say)
    if isinstance(content.encoded, (EncodedStream, CompressedRecords)):
        found = packed_stream(folder, content.encoded, layout, journal, meter)
    else:
        found = _packed(folder, content.encoded, layout, journal, meter, jobs)
    manifest = Manifest(
        container=layout.shard_format.container,
        compression=layout.shard_format.compression,
        structure=content.encoded.structure,
        features=content.encoded.features,
        num_examples=sum(shard.examples for shard in found),
        split=layout.split,
        class_names=content.class_names,
        source=description,
        fingerprint=content.fingerprint,
        key=key,
        shards=tuple(found),
    )
    write_manifest(folder, manifest)
    journal.close()
    return manifest


def layout_of(
    container: str,
    compression: str | None,
    num_shards: int | None,
    shard_bytes: int | None,
    split: str | None,
) -> Layout:
    """Returns how examples are divided and written. The arguments are those of `pack`."""
    one_of("container", container, COMPRESSIONS)
    known = COMPRESSIONS[container]
    if compression == "auto":
        compression = known[0]
    if compression not in known:
        raise ValueError(
            f"`compression` of {container} must be one of {', '.join(map(repr, known))}. Received: "
            f"compression={compression!r}. Omit it for {known[0]!r}."
        )
    if num_shards is not None:
        whole_number("num_shards", num_shards, cure="Count files.")
        if shard_bytes is not None:
            raise ValueError(
                "`shard_bytes` must be None if `num_shards` is passed. Received: "
                f"num_shards={num_shards!r}, shard_bytes={shard_bytes!r}. Omit one of them."
            )
    if shard_bytes is not None:
        whole_number("shard_bytes", shard_bytes, cure=f"The default is {DEFAULT_SHARD_BYTES}.")
    if split is not None and (not text("split", split).isidentifier() or not split.isascii()):
        raise ValueError(
            "`split` must be a name of ASCII letters, digits and underscores. Received: "
            f"split={split!r}. Examples: 'train', 'test'."
        )
    return Layout(ShardFormat(container, compression), num_shards, shard_bytes, split)


def _layout_key(layout: Layout, content: Contents) -> str:
    shard_format = (layout.shard_format.container, layout.shard_format.compression)
    sizes = (layout.num_shards, layout.shard_bytes, layout.split)
    return hashed([_VERSION, *shard_format, *sizes, content.class_names])


def _refuse_inside(source: Any, folder: str | os.PathLike[str]) -> None:
    """Refuses to pack an image folder into itself, where the set would be taken for a class."""
    if not isinstance(source, RandomAccessSource):
        return
    for part in source.parts:
        _refuse_inside(part, folder)
    if isinstance(source, ImageFolder):
        root = Path(source.files[0]).parents[1]
        if Path(folder).resolve().is_relative_to(root.resolve()):
            raise ValueError(
                "`folder` must be outside of the image folder that is packed. Received: "
                f"folder={os.fspath(folder)!r} in {os.fspath(root)!r}. Choose another folder."
            )


def _jobs() -> int:
    """Returns how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _description(source: Any, fingerprint: str) -> str:
    if isinstance(source, str):
        return source
    return f"{type(source).__name__}: {fingerprint}"


class _Stopped(Exception):
    """Another job has failed."""


def _packed(
    folder: Path,
    encoded: EncodedSource,
    layout: Layout,
    journal: Journal,
    meter: Meter,
    jobs: int,
) -> list[Shard]:
    """Writes the shards of a source with random access, several at a time."""
    if layout.num_shards is not None and layout.num_shards > encoded.num_examples:
        raise ValueError(
            f"`num_shards` must be at most {encoded.num_examples}, the number of examples. "
            f"Received: num_shards={layout.num_shards}. Use fewer."
        )
    bounds = layout.bounds(encoded)
    stopped = threading.Event()

    def batches(first: int, stop: int) -> Iterator[list[bytes]]:
        for records in encoded.batches(first, stop):
            if stopped.is_set():
                raise _Stopped
            yield records
            meter.wrote(len(records), sum(map(len, records)))

    def one(number: int) -> Shard:
        first, stop = bounds[number], bounds[number + 1]
        file = layout.file(number)
        if found := journal.finished(file, first, stop - first):
            meter.wrote(stop - first, 0)
            return found[0]
        shard = write_shard(folder, file, first, batches(first, stop), layout.shard_format)
        journal.add(shard, "")
        return shard

    # A job takes the memory of several pieces, or of several copies of a large record.
    job_bytes = 8 * max(encoded.record_bytes, PIECE_BYTES)
    jobs = min(jobs, len(bounds) - 1, max(1, int(_MEMORY_BYTES / job_bytes)))
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, number) for number in range(len(bounds) - 1)]
        try:
            left = set(futures)
            while left:  # in short waits, which Ctrl-C ends
                done, left = wait(left, timeout=0.2, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                meter.say()
        finally:
            stopped.set()
            for future in futures:
                future.cancel()
    return [future.result() for future in futures]
