"""`tfscale data pack`: what SOURCE means, and how the command ends."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data.packing import sets
from tests.unit.tfscale.data.packing.own_signal import signalled
from tfscale.__main__ import main
from tfscale.data import shards
from tfscale.records.manifest import read_manifest

_MODULE = """
import time

import numpy as np
import tensorflow as tf

from tfscale.data import ReadSource


def arrays():
    return {"x": np.arange(20), "y": np.arange(20) / 2}


def is_even(batch):
    return batch["x"] % 2 == 0


def swapped(batch):
    return batch["y"], batch["x"]


class Slow:
    num_examples, fingerprint = 2000, "slow"
    element_spec = tf.TensorSpec([], tf.int64)

    def read(self, indices):
        time.sleep(pause * len(indices))
        return indices


def slow():
    return ReadSource(Slow())


def no_database():
    raise RuntimeError("no database")


def priced(batch):
    return batch["price"]


pause = 0.002
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with files of every kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("packed_sources", None)
    (tmp_path / "packed_sources.py").write_text(_MODULE)
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
    (tmp_path / "b.jsonl").write_text('{"x": 3}\n')
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "a.csv").write_text("x,y\n1,2.5\n3,4.5\n")
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        writer.write(b"record")
    for name in ("ant", "bee"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        image = tf.io.encode_png(np.zeros([4, 4, 3], np.uint8)).numpy()
        (tmp_path / "pets" / name / "1.png").write_bytes(image)
    return tmp_path


def pack(*arguments: str) -> int:
    return main(["data", "pack", *arguments])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["packed_sources:arrays"], {"x": np.arange(20), "y": np.arange(20) / 2}),
        (["*.jsonl"], {"x": np.array([1, 2, 3])}),
        (["a.txt"], np.array([b"one", b"two"], object)),
        (["a.tfrecord"], np.array([b"record"], object)),
        (["a.csv"], {"x": np.array([1, 3]), "y": np.array([2.5, 4.5])}),
        (["a.csv", "--target=y"], ({"x": np.array([1, 3])}, np.array([2.5, 4.5]))),
        (["pets"], (np.zeros([2, 4, 4, 3], np.uint8), np.array([0, 1]))),
        (["pets", "--image_size=2x3"], (np.zeros([2, 2, 3, 3], np.uint8), np.array([0, 1]))),
        (
            [
                "packed_sources:arrays",
                "--filter=packed_sources:is_even",
                "--map=packed_sources:swapped",
            ],
            (np.arange(0, 20, 2) / 2, np.arange(0, 20, 2)),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_source_is_packed(folder: Path, arguments: list[str], expected: Any) -> None:
    assert pack(*arguments, "set") == 0
    sets.assert_same(sets.all_of(shards("set")), expected)
    assert read_manifest("set").source == arguments[0]


def test_a_tfds_name_is_packed_with_its_class_names(folder: Path) -> None:
    pytest.importorskip("tensorflow_datasets")
    import tests.unit.tfscale.data.squares_dataset_builder  # noqa: F401  (registers "squares")

    name = "squares/fixed:train"
    assert pack(name, "set", "--data_dir=tfds", "--num_shards=3", "--split=train") == 0
    manifest = read_manifest("set")
    assert manifest.shards[0].file == "train-00000.tfrecord"
    assert manifest.class_names == ("0", "1", "2", "3")
    images, labels = sets.all_of(shards("set"))
    np.testing.assert_array_equal(images[:, 4, 6, 2], np.arange(40))
    np.testing.assert_array_equal(labels, np.arange(40) % 4)


def test_it_says_what_was_packed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--container=array_record", "--num_shards=3"]
    assert pack("packed_sources:arrays", "set", *flags) == 0
    assert capsys.readouterr().out.startswith("set: 20 examples in 3 shards, 0.")
    assert pack("packed_sources:arrays", "set", *flags, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    size = sum(path.stat().st_size for path in Path("set").glob("*.array_record"))
    assert found == {
        "folder": "set",
        "examples": 20,
        "shards": 3,
        "bytes": size,
        "container": "array_record",
        "compression": "zstd",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nothing", "set"],
            "`SOURCE` 'nothing' is no folder, no file of a known kind, and no MOD",
        ),
        (["no*.jsonl", "set"], "which matches none"),
        (["packed_sources:other", "set"], "It has: arrays, is_even, swapped"),
        (["a.txt", "set", "--filter=packed_sources:no"], "`FUNCTION` must be a function"),
        (["a.txt", "set", "--image_size=3"], "`--image_size` is for a folder of images"),
        (["a.txt", "set", "--num_shards=3"], "`num_shards` must be at most 2"),
        (["a.txt", "set", "--compression=zstd"], "`compression` of tfrecord must be one of"),
        (["packed_sources:no_database", "set"], "raised RuntimeError: no database (packed_sources"),
        (
            ["packed_sources:arrays", "set", "--map=packed_sources:priced"],
            "--map=packed_sources:priced: KeyError: 'price' (packed_sources.py:40)",
        ),
        (
            ["packed_sources:arrays", "set", "--filter=packed_sources:swapped"],
            "--filter=packed_sources:swapped: ValueError: `keep` must map a batch of n "
            "examples to a bool tensor of shape [n]. Received: tuple.",
        ),
        (["pets", "pets/set"], "`folder` must be outside of the image folder"),
        (["a.txt", "pets"], "which contains ant. Choose another folder, or remove this one"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_with_the_cure(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert pack(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfscale data pack: ")
    assert message in error
    assert error.count("\n") == 1


def test_ctrl_c_ends_with_130_and_the_same_command_continues(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("packed_sources:slow", "set", "--num_shards=20", "--jobs=2")
    status, error = signalled(signal.SIGINT, "examples-00004", "data", "pack", *arguments)
    assert status == 130
    assert "interrupted. The same command continues." in error
    assert not list(Path("set").glob(".*.partial"))
    kept = {path.name: path.stat().st_ino for path in Path("set").glob("*.tfrecord")}
    assert 1 <= len(kept) < 20
    (folder / "packed_sources.py").write_text(_MODULE.replace("pause = 0.002", "pause = 0.0"))
    assert pack(*arguments) == 0
    after = {path.name: path.stat().st_ino for path in Path("set").glob("*.tfrecord")}
    assert after.items() >= kept.items()
    np.testing.assert_array_equal(sets.all_of(shards("set")), np.arange(2000))
