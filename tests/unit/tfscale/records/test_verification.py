"""Shards compared with their manifest: every kind of damage is named, and none is missed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.tfscale.records.packed_sets import SHARDS, example, packed_set, write_records
from tfscale.records.manifest import ManifestError, read_manifest
from tfscale.records.placing import put_back, write_lost_indexes
from tfscale.records.verification import FileState, verified

FORMATS: list[tuple[str, str | None]] = [
    ("tfrecord", None),
    ("tfrecord", "GZIP"),
    ("tfrecord", "ZLIB"),
    ("array_record", "zstd"),
]


def states(folder: Path, jobs: int = 1) -> list[FileState]:
    return verified(folder, read_manifest(folder), jobs=jobs, say=print)


def kinds(folder: Path) -> dict[int | str, str]:
    """Returns the state of each file that has a problem, by the number of a shard."""
    shards = [shard.file for shard in read_manifest(folder).shards]
    found = [state for state in states(folder) if state.state != "good"]
    assert all(state.problem.startswith((state.file, f"The index {state.file}")) for state in found)
    return {
        shards.index(state.file) if state.file in shards else state.file: state.state
        for state in found
    }


class Limited:
    """Renames files a number of times, then is interrupted."""

    def __init__(self, moves: int) -> None:
        self.left = moves

    def rename(self, path: Path, target: Path) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        os.replace(path, target)  # noqa: PTH105


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    packed_set(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def shards(folder: Path) -> list[Path]:
    return [folder / shard.file for shard in read_manifest(folder).shards]


@pytest.mark.parametrize(("container", "compression"), FORMATS)
def test_an_intact_set_is_good(tmp_path: Path, container: str, compression: str | None) -> None:
    packed_set(tmp_path, container, compression)
    assert [state.state for state in states(tmp_path)] == ["good"] * SHARDS
    assert states(tmp_path, jobs=2) == states(tmp_path)


@pytest.mark.parametrize(("container", "compression"), FORMATS)
def test_a_flipped_bit_anywhere_is_never_good(
    tmp_path: Path, container: str, compression: str | None
) -> None:
    packed_set(tmp_path, container, compression)
    paths = sorted(tmp_path.iterdir())
    generator = random.Random(f"{container} {compression}")
    for _ in range(50):
        path = generator.choice(paths)
        whole = path.read_bytes()
        place = generator.randrange(len(whole) * 8)
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        if path.name == "manifest.json":
            with pytest.raises(ManifestError, match=path.name):
                read_manifest(tmp_path)
        else:
            (damaged,) = (state for state in states(tmp_path) if state.state != "good")
            assert path.name in damaged.problem
        path.write_bytes(whole)


@pytest.mark.parametrize(("container", "compression"), FORMATS)
def test_truncated_longer_and_missing_shards_are_named(
    tmp_path: Path, container: str, compression: str | None
) -> None:
    manifest = packed_set(tmp_path, container, compression)
    first, second, third, _ = (tmp_path / shard.file for shard in manifest.shards)
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(second.read_bytes() + b"\0")
    third.unlink()
    assert kinds(tmp_path) == {0: "truncated", 1: "damaged", 2: "missing"}
    problem = states(tmp_path)[0].problem
    size = manifest.shards[0].bytes
    assert problem == (
        f"{first.name} is truncated: it has {size - 1:,} of {size:,} bytes. Restore it from a "
        "copy, or run with --repair --source=SOURCE."
    )


def test_a_damaged_record_is_named_by_its_number(folder: Path, shards: Sequence[Path]) -> None:
    whole = bytearray(shards[1].read_bytes())
    whole[113 * 2 + 50] ^= 1
    shards[1].write_bytes(whole)
    assert states(folder)[1].problem.startswith(
        f"{shards[1].name} is damaged: its data does not match its checksum, in record 2. "
    )


def test_a_shard_with_other_records_that_are_intact_is_damaged(
    folder: Path, shards: Sequence[Path]
) -> None:
    write_records(shards[0], [example(number + 1) for number in range(25)], "tfrecord", None)
    assert kinds(folder) == {0: "damaged"}
    assert "it has other content, with intact records" in states(folder)[0].problem


def test_exchanged_shards_are_named_and_put_back(folder: Path, shards: Sequence[Path]) -> None:
    before = content(folder)
    shards[0].rename(folder / "spare")
    shards[1].rename(shards[0])
    shards[2].rename(shards[1])
    (folder / "spare").rename(shards[2])
    assert kinds(folder) == {0: "swapped", 1: "swapped", 2: "swapped"}
    assert states(folder)[0].problem == (
        f"{shards[0].name} contains the shard {shards[1].name}. Run with --repair: it is moved "
        "back."
    )
    assert sorted(put_back(folder, states(folder))) == [path.name for path in shards[:3]]
    assert content(folder) == before


def test_a_renamed_shard_is_found_under_any_name(folder: Path, shards: Sequence[Path]) -> None:
    before = content(folder)
    shards[3].rename(folder / "old copy.bak")
    assert kinds(folder) == {3: "missing", "old copy.bak": "renamed"}
    assert states(folder)[3].problem.endswith("is missing; old copy.bak contains it. See there.")
    assert put_back(folder, states(folder)) == [shards[3].name]
    assert content(folder) == before


def test_a_copy_in_the_place_of_another_shard_is_a_duplicate(
    folder: Path, shards: Sequence[Path]
) -> None:
    shutil.copy(shards[0], shards[2])
    assert kinds(folder) == {2: "duplicated"}
    assert f"is a copy of {shards[0].name}; its own content is lost" in states(folder)[2].problem
    assert put_back(folder, states(folder)) == []


def test_files_that_are_not_in_the_manifest_are_unexpected(
    folder: Path, shards: Sequence[Path]
) -> None:
    shutil.copy(shards[0], folder / "train-00004.tfrecord")
    (folder / "train-00005.tfrecord").write_bytes(b"something else")
    (folder / "README.md").write_text("about the set", "utf-8")
    assert kinds(folder) == {
        "train-00004.tfrecord": "unexpected",
        "train-00005.tfrecord": "unexpected",
    }
    assert f"a copy of {shards[0].name}. Remove it." in states(folder)[-2].problem
    assert put_back(folder, states(folder)) == []


def test_lost_and_exchanged_indexes_are_written_again(folder: Path, shards: Sequence[Path]) -> None:
    before = content(folder)
    Path(f"{shards[0]}.tfindex").unlink()
    shutil.copy(f"{shards[1]}.tfindex", f"{shards[2]}.tfindex")
    assert kinds(folder) == {0: "no index", 2: "wrong index"}
    assert write_lost_indexes(folder, states(folder)) == [shards[0].name, shards[2].name]
    assert content(folder) == before


def test_an_interrupted_exchange_is_completed_by_the_next(
    folder: Path, shards: Sequence[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(folder)
    shards[0].rename(folder / "spare")
    shards[1].rename(shards[0])
    (folder / "spare").rename(shards[1])
    exchanged = content(folder)
    for moves in range(4):  # two files move twice
        for name, data in exchanged.items():
            (folder / name).write_bytes(data)
        with monkeypatch.context() as patch:
            limited = Limited(moves)
            patch.setattr(Path, "rename", lambda path, to, by=limited: by.rename(path, to))
            patch.setattr(Path, "replace", Path.rename)
            with pytest.raises(KeyboardInterrupt):
                put_back(folder, states(folder))
        put_back(folder, states(folder))
        assert content(folder) == before


def test_what_is_no_file_or_cannot_be_read_is_named(folder: Path, shards: Sequence[Path]) -> None:
    shards[0].unlink()
    shards[0].mkdir()
    shards[1].unlink()
    os.mkfifo(shards[1])
    assert kinds(folder) == {0: "missing", 1: "missing"}
