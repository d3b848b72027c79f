"""Packed sets for tests, written by the libraries of their containers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordWriter

from tfscale.records.index import index_path, scanned, write_index
from tfscale.records.manifest import Feature, Manifest, Shard, shard_fingerprint, write_manifest

SHARDS, EXAMPLES = 4, 25


def write_records(
    path: Path, records: Sequence[bytes], container: str, compression: str | None
) -> None:
    """Writes a file of records."""
    if container == "array_record":
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
        return
    with tf.io.TFRecordWriter(str(path), compression or "") as stream:
        for record in records:
            stream.write(record)
    if compression is None:
        write_index(index_path(str(path)), scanned(str(path)))


def example(number: int) -> bytes:
    """Returns an 8x8 image and its label as a `tf.train.Example`."""
    image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[bytes([number]) * 64]))
    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 2]))
    features = tf.train.Features(feature={"image": image, "label": label})
    serialized: bytes = tf.train.Example(features=features).SerializeToString(deterministic=True)
    return serialized


def packed_set(
    folder: Path, container: str = "tfrecord", compression: str | None = None
) -> Manifest:
    """Writes 4 shards of 25 images of two classes, and their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for number in range(SHARDS):
        first = number * EXAMPLES
        path = folder / f"train-{number:05d}-of-{SHARDS:05d}.{container}"
        records = [example(index) for index in range(first, first + EXAMPLES)]
        write_records(path, records, container, compression)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        shards.append(
            Shard(
                path.name,
                first,
                EXAMPLES,
                len(content),
                digest,
                shard_fingerprint(str(path), container, compression),
            )
        )
    manifest = Manifest(
        container=container,
        compression=compression,
        structure={"tuple": ["image", "label"]},
        features=(
            Feature("image", "uint8", (8, 8), "raw"),
            Feature("label", "int64", (), "int64"),
        ),
        num_examples=SHARDS * EXAMPLES,
        split="train",
        class_names=("cat", "dog"),
        source="100 images for a test",
        fingerprint="numbers 0 to 99",
        key="",
        shards=tuple(shards),
    )
    write_manifest(folder, manifest)
    return manifest
