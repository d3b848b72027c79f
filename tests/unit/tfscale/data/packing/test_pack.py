"""Packing and reading back: every container, every kind of source."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from tests.unit.tfscale.data.packing import sets
from tfscale.data import image_folder, pack, shards
from tfscale.data.packing.plan import balanced
from tfscale.records.manifest import read_manifest

SOURCE = {
    "x": np.arange(100),
    "y": np.random.default_rng(0).normal(size=[100, 3]),
    "z": tf.RaggedTensor.from_row_lengths(np.arange(4950, dtype=np.int16), np.arange(100)),
}


def stream() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(SOURCE)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of JPEG, PNG, BMP and GIF files of one size."""
    random = np.random.default_rng(1)
    folder = tmp_path / "images"
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            image = tf.constant(random.integers(0, 256, [9, 8, 3], np.uint8))
            jpeg, png = tf.io.encode_jpeg(image).numpy(), tf.io.encode_png(image).numpy()
            (folder / name / f"{number}.JPG").write_bytes(jpeg)
            (folder / name / f"{number}.png").write_bytes(png)
    pil = pytest.importorskip("PIL.Image")
    for ending in ("bmp", "gif"):
        pil.fromarray(image.numpy()).save(folder / "bee" / f"x.{ending}")
    return folder


@pytest.mark.parametrize(("container", "compression"), sets.CONTAINERS)
def test_every_container_returns_what_was_packed(
    container: str, compression: str | None, tmp_path: Path
) -> None:
    manifest = pack(
        SOURCE, tmp_path, container=container, compression=compression, num_shards=3, split="train"
    )
    assert [shard.examples for shard in manifest.shards] == [33, 33, 34]
    assert read_manifest(tmp_path) == manifest
    found = shards(tmp_path)
    has_random_access = compression not in ("GZIP", "ZLIB")
    assert isinstance(found, tfscale.data.PackedSource) == has_random_access
    sets.assert_same(sets.all_of(found), SOURCE)
    if has_random_access:
        rows = tf.constant([99, 0, 50], tf.int64)
        expected = {name: tf.gather(part, rows) for name, part in SOURCE.items()}
        sets.assert_same(found.take(rows), expected)
        assert (found.num_examples, found.split) == (100, "train")


@pytest.mark.parametrize(("container", "compression"), sets.CONTAINERS)
def test_any_number_of_jobs_writes_the_same_bytes(
    container: str, compression: str | None, tmp_path: Path
) -> None:
    for jobs in (1, 4):
        pack(
            SOURCE,
            tmp_path / str(jobs),
            container=container,
            compression=compression,
            num_shards=5,
            jobs=jobs,
        )
    assert sets.contents(tmp_path / "1") == sets.contents(tmp_path / "4")


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
def test_compressed_shards_are_compressed_uncompressed_shards(
    compression: str, tmp_path: Path
) -> None:
    pack(SOURCE, tmp_path / "plain", num_shards=1)
    pack(SOURCE, tmp_path / "small", num_shards=1, compression=compression)
    name = "examples-00000.tfrecord"
    small = (tmp_path / "small" / name).read_bytes()
    opened = gzip.decompress(small) if compression == "GZIP" else zlib.decompress(small)
    assert opened == (tmp_path / "plain" / name).read_bytes()


def test_a_dataset_is_packed_into_the_bytes_of_its_arrays(tmp_path: Path) -> None:
    pack(SOURCE, tmp_path / "arrays", num_shards=4)
    pack(stream(), tmp_path / "dataset", num_shards=4)
    arrays, dataset = sets.contents(tmp_path / "arrays"), sets.contents(tmp_path / "dataset")
    assert {name for name in arrays if arrays[name] != dataset[name]} == {"manifest.json"}


def test_a_dataset_of_unknown_cardinality_is_cut_by_bytes(tmp_path: Path) -> None:
    unknown = stream().filter(lambda example: example["x"] < 90)
    manifest = pack(unknown, tmp_path, shard_bytes=4000)
    sizes = [shard.bytes - 16 * shard.examples for shard in manifest.shards]
    assert manifest.num_examples == 90
    assert all(4000 <= size < 4500 for size in sizes[:-1])
    assert sizes[-1] < 4500
    found = sets.all_of(shards(tmp_path))
    sets.assert_same(found, {name: part[:90] for name, part in SOURCE.items()})
    with pytest.raises(ValueError, match="`num_shards` must be None for a tf"):
        pack(unknown, tmp_path / "other", num_shards=2)


def test_a_source_is_cut_into_shards_of_equal_bytes(tmp_path: Path) -> None:
    texts = np.array([b"x" * (10 if row < 3000 else 1000) for row in range(4000)], object)
    manifest = pack(texts, tmp_path, shard_bytes=200_000)
    sizes = np.array([shard.bytes - 16 * shard.examples for shard in manifest.shards])
    assert len(sizes) == 6
    assert sizes.max() < 1.1 * sizes.min()


@pytest.mark.parametrize("shard_bytes", [1, 7, 50, 10**9])
def test_every_shard_has_an_example_and_every_example_a_shard(shard_bytes: int) -> None:
    means = np.random.default_rng(2).integers(1, 100, 30).astype(float)
    cuts = balanced(np.arange(31), means, shard_bytes)
    assert (cuts[0], cuts[-1]) == (0, 30)
    assert np.diff(cuts).min() >= 1
    assert len(cuts) == min(30, int(np.ceil(means.sum() / shard_bytes))) + 1


@pytest.mark.parametrize("is_stream", [False, True])
def test_filter_and_map_are_those_of_a_pipeline(tmp_path: Path, *, is_stream: bool) -> None:
    def keep(batch: Any) -> tf.Tensor:
        return batch["x"] % 3 == 0

    def halved(batch: Any) -> Any:
        return tf.cast(batch["y"], tf.float32), batch["x"] // 2

    pack(stream() if is_stream else SOURCE, tmp_path, keep=keep, preprocess=halved)
    x, y = SOURCE["x"][::3], SOURCE["y"][::3]
    expected = (tf.constant(y, tf.float32), tf.constant(x // 2))
    sets.assert_same(sets.all_of(shards(tmp_path)), expected)
    with pytest.raises(ValueError, match=r"must .* at least one example"):
        pack(stream() if is_stream else SOURCE, tmp_path / "none", keep=lambda b: b["x"] < 0)


@pytest.mark.parametrize("image_size", [None, (5, 7)])
def test_images_are_packed_as_files_and_have_the_pixels_of_their_folder(
    images: Path, image_size: Any, tmp_path: Path
) -> None:
    source = image_folder(images, image_size=image_size)
    manifest = pack(source, tmp_path / "set", num_shards=2, compression="GZIP")
    packed = tmp_path / "set"
    pack(source, tmp_path / "plain", num_shards=2)
    assert manifest.class_names == ("ant", "bee")
    sets.assert_same(sets.all_of(shards(tmp_path / "plain")), sets.all_of(source))
    sets.assert_same(sets.all_of(shards(packed)), sets.all_of(source))
    records = tf.data.TFRecordDataset([str(packed / s.file) for s in manifest.shards], "GZIP")
    example = tf.train.Example.FromString(next(iter(records)).numpy()).features.feature
    assert example["image"].bytes_list.value == [(images / "ant" / "0.JPG").read_bytes()]
    assert example["image/format"].bytes_list.value == [b"jpg"]


def test_a_set_is_packed_again_without_decoding_its_images(images: Path, tmp_path: Path) -> None:
    source = image_folder(images)
    pack(source, tmp_path / "one", num_shards=2)
    bees = pack(
        shards(tmp_path / "one"),
        tmp_path / "two",
        container="array_record",
        keep=lambda batch: batch[1] == 1,
    )
    found = shards(tmp_path / "two")
    assert isinstance(found, tfscale.data.PackedSource)
    assert found.class_names == bees.class_names == ("ant", "bee")
    assert [feature.encoding for feature in bees.features] == ["image", "int64"]
    expected = source.take(tf.range(10, source.num_examples, dtype=tf.int64))
    sets.assert_same(sets.all_of(found), expected)


def test_a_broken_image_is_named_and_leaves_no_set(images: Path, tmp_path: Path) -> None:
    broken = images / "ant" / "3.JPG"
    source = image_folder(images)
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(ValueError, match=f"Received: {broken}.*Repair, convert or remove"):
        pack(source, tmp_path / "set")
    broken.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=f"{broken} changed while it was packed"):
        pack(source, tmp_path / "set")
    with pytest.raises(ValueError, match=r"without manifest\.json"):
        shards(tmp_path / "set")


@pytest.mark.parametrize(
    ("container", "compression"), [("tfrecord", None), ("array_record", "zstd")]
)
def test_a_pipeline_of_a_set_has_the_batches_of_its_source(
    container: str, compression: str | None, tmp_path: Path
) -> None:
    dense = {name: SOURCE[name] for name in ("x", "y")}
    pack(dense, tmp_path, container=container, compression=compression, num_shards=3)
    strategy = strategies.one_device_strategy()
    batches = [
        tfscale.data.input_pipeline(source, strategy, 32, seed=5).local(0).take(8)
        for source in (dense, shards(tmp_path))
    ]
    for one, other in zip(*batches, strict=True):
        sets.assert_same(other, one)


def test_a_mixture_is_packed_in_its_order(tmp_path: Path) -> None:
    mixed = tfscale.data.mixture([(np.arange(10), 2), (np.arange(100, 105), 1)])
    manifest = pack(mixed, tmp_path)
    found = sets.all_of(shards(tmp_path)).numpy()
    assert manifest.num_examples == mixed.num_examples == len(found)
    assert set(found.tolist()) <= {*range(10), *range(100, 105)}
    assert np.count_nonzero(found < 100) == pytest.approx(2 * np.count_nonzero(found >= 100), abs=2)
