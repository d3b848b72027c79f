"""A pack that is killed at any moment and started again ends with the same bytes."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data.packing import sets
from tests.unit.tfscale.data.packing.slow_pack import killed, packed
from tfscale.data import pack, shards
from tfscale.data.packing.journal import folder_for_pack
from tfscale.records.manifest import NAME

_SOURCE = (np.arange(60), np.random.default_rng(0).normal(size=[60, 500]))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def undisturbed_after_kills(
    tmp_path: Path, moments: Any, kind: str, container: str, compression: str
) -> set[int]:
    """Returns how many complete shards the kills have left."""
    left: set[int] = set()
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    packed(whole, kind, container, compression, 0.0)
    for shards_before, seconds in moments:
        left.add(killed(seconds, folder, kind, container, compression, 0.01, shards=shards_before))
        if folder.exists():
            assert NAME not in files(folder) or sets.contents(folder) == sets.contents(whole)
    packed(folder, kind, container, compression, 0.0)
    assert sets.contents(folder) == sets.contents(whole)
    return left


def test_killed_at_three_moments_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    undisturbed_after_kills(
        tmp_path, [(1, 0.03), (3, 0.01), (6, 0.02)], "source", "tfrecord", "none"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["source", "dataset"])
@pytest.mark.parametrize(
    ("container", "compression"),
    [("tfrecord", "none"), ("tfrecord", "GZIP"), ("array_record", "zstd")],
)
def test_killed_at_twenty_random_moments_it_ends_with_the_same_bytes(
    kind: str, container: str, compression: str, tmp_path: Path
) -> None:
    random = np.random.default_rng()
    left: set[int] = set()
    for number in range(20):
        count = random.integers(1, 4)
        before = np.sort(random.integers(0, 8, count)).tolist()
        moments = list(zip(before, random.uniform(0, 0.2, count).tolist(), strict=True))
        print(number, moments)
        how = (kind, container, compression)
        left |= undisturbed_after_kills(tmp_path / str(number), moments, *how)
    assert left.intersection(range(1, 8))


@pytest.mark.parametrize("is_dataset", [False, True])
def test_complete_shards_are_kept_and_damaged_ones_are_written_again(
    tmp_path: Path, *, is_dataset: bool
) -> None:
    source = tf.data.Dataset.from_tensor_slices(_SOURCE) if is_dataset else _SOURCE
    pack(source, tmp_path / "whole", num_shards=4)
    folder = tmp_path / "part"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfscale.data.packing.writing.write_manifest", _fail)
        with pytest.raises(RuntimeError, match="before the manifest"):
            pack(source, folder, num_shards=4, jobs=1)
    names = [f"examples-0000{number}.tfrecord" for number in range(4)]
    before = {name: (folder / name).stat().st_ino for name in names}
    damaged = bytearray((folder / names[2]).read_bytes())
    damaged[100] ^= 1
    (folder / names[2]).write_bytes(damaged)
    (folder / f"{names[1]}.tfindex").unlink()
    pack(source, folder, num_shards=4)
    after = {name: (folder / name).stat().st_ino for name in names}
    kept = {name for name in names if before[name] == after[name]}
    assert kept == ({names[0]} if is_dataset else {names[0], names[3]})
    assert sets.contents(folder) == sets.contents(tmp_path / "whole")


def _fail(*_: Any) -> None:
    raise RuntimeError("before the manifest")


@pytest.mark.parametrize("cut", [1, 20])
def test_a_journal_whose_last_line_was_cut_is_continued(tmp_path: Path, cut: int) -> None:
    pack(_SOURCE, tmp_path / "whole", num_shards=4)
    folder = tmp_path / "part"
    journal = folder / ".packing"
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tfscale.data.packing.writing.write_manifest", _fail)
            with pytest.raises(RuntimeError):
                pack(_SOURCE, folder, num_shards=4)
        before = journal.read_bytes()
        journal.write_bytes(before[:-cut])
    # The shard whose line was cut was written again, and has a line of its own.
    assert json.loads(before.splitlines()[-1])["shard"]["examples"] == 15
    pack(_SOURCE, folder, num_shards=4)
    assert sets.contents(folder) == sets.contents(tmp_path / "whole")


def test_a_dataset_that_yields_other_examples_is_not_continued(tmp_path: Path) -> None:
    numbers = itertools.count()
    dataset = tf.data.Dataset.from_generator(
        lambda: (next(numbers) for _ in range(20)), output_signature=tf.TensorSpec([], tf.int64)
    ).apply(tf.data.experimental.assert_cardinality(20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfscale.data.packing.encoded_stream.hashlib", _SameHash)
        patch.setattr("tfscale.data.packing.writing.write_manifest", _fail)
        with pytest.raises(RuntimeError):
            pack(dataset, tmp_path, num_shards=2)
        with pytest.raises(ValueError, match="must yield the same examples in every iteration"):
            pack(dataset, tmp_path, num_shards=2)


class _SameHash:
    """Makes the first examples of the dataset look the same."""

    @classmethod
    def sha256(cls) -> Any:
        return cls()

    def update(self, _: bytes) -> None:
        pass

    def hexdigest(self) -> str:
        return "0" * 64


def test_a_complete_set_is_not_written_again(tmp_path: Path) -> None:
    manifest = pack(_SOURCE, tmp_path, num_shards=2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert pack(_SOURCE, tmp_path, num_shards=2, jobs=3) == manifest
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("is_complete", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        {"num_shards": 3},
        {"compression": "GZIP"},
        {"split": "train"},
        {"keep": lambda batch: batch[0] > 3},
        {"source": (_SOURCE[0] + 1, _SOURCE[1])},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_folder_with_another_set_is_refused(
    tmp_path: Path, change: Any, *, is_complete: bool
) -> None:
    arguments: dict[str, Any] = {"source": _SOURCE, "num_shards": 2}
    if is_complete:
        pack(folder=tmp_path, **arguments)
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tfscale.data.packing.writing.write_manifest", _fail)
            with pytest.raises(RuntimeError):
                pack(folder=tmp_path, **arguments)
    before = sets.contents(tmp_path)
    with pytest.raises(ValueError, match="Choose another folder, or remove this one"):
        pack(folder=tmp_path, **{**arguments, **change})
    assert sets.contents(tmp_path) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ValueError, match=r"which contains thesis\.txt"):
        pack(_SOURCE, tmp_path)
    assert files(tmp_path) == {"thesis.txt"}


def test_two_packs_into_one_folder_are_refused(tmp_path: Path) -> None:
    with folder_for_pack(tmp_path), pytest.raises(OSError, match="Another process packs into"):
        pack(_SOURCE, tmp_path)
    pack(_SOURCE, tmp_path)


class _Opaque:
    """Has no stable hash."""

    def __call__(self, batch: Any) -> Any:
        return batch


def test_a_function_without_a_hash_starts_again_and_a_version_continues(tmp_path: Path) -> None:
    opaque = _Opaque()
    for version, kept in ((None, False), ("1", True)):
        folder = tmp_path / str(version)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tfscale.data.packing.writing.write_manifest", _fail)
            with pytest.raises(RuntimeError):
                pack(_SOURCE, folder, preprocess=lambda b: opaque(b), version=version)
        first = folder / "examples-00000.tfrecord"
        before = first.stat().st_ino
        os.link(first, tmp_path / f"kept-{version}")  # so that the number is not used again
        pack(_SOURCE, folder, preprocess=lambda b: opaque(b), version=version)
        assert (first.stat().st_ino == before) is kept


@pytest.mark.parametrize(("container", "compression"), sets.CONTAINERS)
def test_a_full_disk_is_an_error_that_names_path_and_cure(
    container: str, compression: str | None, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    how: dict[str, Any] = {"container": container, "compression": compression, "num_shards": 2}
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"examples-0000\d\..*File too large.*run the same comm"):
            pack(_SOURCE, tmp_path, **how)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path) == {".packing"}
    pack(_SOURCE, tmp_path, **how)
    assert len(sets.all_of(shards(tmp_path))[0]) == 60


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounts a file system")
def test_a_full_file_system_is_an_error_and_the_pack_continues_with_room(tmp_path: Path) -> None:
    if os.system(f"mount -t tmpfs -o size=100k none {tmp_path} 2>/dev/null"):
        pytest.skip("this machine allows no mounts")
    try:
        with pytest.raises(OSError, match=r"No space left on device.*Make room"):
            pack(_SOURCE, tmp_path / "set", num_shards=3, jobs=1)
        assert not list((tmp_path / "set").glob(".*.partial"))
        assert NAME not in files(tmp_path / "set")
        os.system(f"mount -o remount,size=10M {tmp_path}")
        pack(_SOURCE, tmp_path / "set", num_shards=3)
        sets.assert_same(sets.all_of(shards(tmp_path / "set")), _SOURCE)
    finally:
        os.system(f"umount {tmp_path}")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"file.*could not be written: .*Make room or get permission"):
        pack(_SOURCE, tmp_path / "file" / "set")
    with pytest.raises(ValueError, match="must be a local folder"):
        pack(_SOURCE, "gs://bucket/set")
