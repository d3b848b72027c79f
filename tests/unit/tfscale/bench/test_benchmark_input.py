"""`python -m tests.benchmarks input`: its images, what it counts, and real runs of small sets."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.benchmarks.input.images import LABEL_BYTES, ImageSet, image_set, pixels
from tests.benchmarks.input.race import VARIANTS
from tests.programs import completed
from tfscale.bench.peers.environment import reason_missing
from tfscale.bench.turns import children

IMAGES, BATCH = 64, 16
UNDECODED = ("in_order", "at_random")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return image_set(IMAGES, tmp_path_factory.mktemp("images"))


def rows(images: ImageSet, names: str) -> dict[str, Any]:
    flags = (f"--num_images={IMAGES}", f"--batch_size={BATCH}", f"--variants={names}")
    folder = f"--data_dir={images.root.parent}"
    command = ("-m", "tests.benchmarks", "input", "--json", "--rounds=2", *flags, folder)
    done = completed(*command, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return {row["name"]: row for row in json.loads(done.stdout)["rows"]}


def test_the_three_forms_of_the_set_have_the_same_bytes(images: ImageSet) -> None:
    array_record_module = pytest.importorskip("array_record.python.array_record_module")

    files = {int(path.stem): path for path in images.folder.glob("*/*.jpg")}
    records = tf.data.TFRecordDataset([str(path) for path in images.record_files])
    array_records = array_record_module.ArrayRecordReader(str(images.array_record)).read_all()
    assert sorted(files) == list(range(IMAGES))
    for index, (record, array_record) in enumerate(zip(records, array_records, strict=True)):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        jpeg = files[index].read_bytes()
        number = int(files[index].parent.name.removeprefix("class"))
        assert features["image"].bytes_list.value[0] == jpeg
        assert features["label"].int64_list.value[0] == number
        assert array_record == number.to_bytes(LABEL_BYTES, "little") + jpeg


def test_an_image_is_reproducible_and_compresses_like_a_photograph(images: ImageSet) -> None:
    assert np.array_equal(pixels(3), pixels(3))
    assert not np.array_equal(pixels(3), pixels(4))
    sizes = [path.stat().st_size for path in images.folder.glob("*/*.jpg")]
    assert 1000 < np.mean(sizes) < 4000  # noise would be above 6,000, a plain area below 700


def test_processes_that_a_variant_started_are_counted() -> None:
    before = len(children())
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=busy, args=(ready,))
    process.start()
    try:
        assert ready.wait(240)
        found = children()
        assert len(found) > before
        largest = max(found, key=lambda child: child.resident_bytes)
        assert largest.resident_bytes > 100e6
        assert largest.peak_bytes >= largest.resident_bytes
        assert largest.processor_seconds >= 0.5
    finally:
        process.kill()
        process.join()
    assert len(children()) <= before + 1  # the process that watches those of "spawn" remains


def busy(ready: Any) -> None:
    memory = np.ones(100_000_000, np.uint8)
    while time.process_time() < 0.6:
        memory[0] += 0
    ready.set()
    time.sleep(600)


@pytest.mark.thorough
def test_tfscale_and_tf_data_decode_the_same_pixels(images: ImageSet) -> None:
    found = rows(images, "tf_data_tuned,tfscale,tfscale_record,tfscale_array_record")
    assert found["tfscale"]["value"]["median"] > 0
    assert found["tfscale"]["facts"]["examples/s"] > 0
    pixels = {row["facts"]["pixels"] for row in found.values()}
    assert len(pixels) == 1
    assert "" not in pixels


def test_a_peer_without_its_environment_is_a_row_that_says_so(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "TFSCALE_BENCH_PEERS", "none")
    found = rows(images, "grain,in_order")
    assert "make peers" in found["grain"]["skipped"]
    assert found["in_order"]["value"]["median"] > 0


@pytest.mark.thorough
def test_every_variant_reads_and_decodes_the_same_pixels(images: ImageSet) -> None:
    for package in ("torch", "grain", "pillow", "simplejpeg"):
        if reason := reason_missing(package):
            pytest.skip(reason)
    names = [variant.name for variant in VARIANTS]
    found = rows(images, ",".join(names))
    assert list(found) == names
    decoded = {found[name]["facts"]["pixels"] for name in names if name not in UNDECODED}
    assert len(decoded) == 1
