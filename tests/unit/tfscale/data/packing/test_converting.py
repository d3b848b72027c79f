"""Converting keeps the bytes and the order of records, whatever the containers."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
from pathlib import Path

import pytest
import tensorflow as tf

from tests.faults.disks import fill, missing, small_disk
from tests.unit.tfscale.data.packing import sets
from tests.unit.tfscale.data.packing.own_signal import signalled
from tests.unit.tfscale.records.packed_sets import packed_set, write_records
from tfscale.__main__ import main
from tfscale.data import shards
from tfscale.data.packing.converting import convert
from tfscale.records.content import records_in
from tfscale.records.index import RecordFileError
from tfscale.records.manifest import Manifest, read_manifest
from tfscale.records.verification import verified

RECORDS = [random.Random(number).randbytes(number * 7 % 300) for number in range(100)]


def records(folder: Path) -> list[bytes]:
    """All records of a set, which must be intact."""
    manifest = read_manifest(folder)
    found = verified(folder, manifest, jobs=1, say=print)
    assert {state.state for state in found} == {"good"}
    return [record for shard in manifest.shards for record in records_in(str(folder / shard.file))]


def examples(manifest: Manifest) -> list[int]:
    return [shard.examples for shard in manifest.shards]


@pytest.mark.parametrize(
    ("before", "after"), list(itertools.product(sets.CONTAINERS, sets.CONTAINERS)), ids=str
)
def test_records_are_the_same_in_every_container(
    tmp_path: Path, before: tuple[str, str | None], after: tuple[str, str | None]
) -> None:
    old = packed_set(tmp_path / "old", *before)
    new = convert(tmp_path / "old", tmp_path / "new", container=after[0], compression=after[1])
    assert records(tmp_path / "new") == records(tmp_path / "old")
    assert (new.container, new.compression) == after
    assert examples(new) == examples(old)
    for name in ("structure", "features", "num_examples", "split", "class_names", "fingerprint"):
        assert getattr(new, name) == getattr(old, name)
    sets.assert_same(sets.all_of(shards(tmp_path / "new")), sets.all_of(shards(tmp_path / "old")))


@pytest.mark.parametrize(("container", "compression"), sets.CONTAINERS)
def test_files_without_a_manifest_become_a_set_of_records(
    tmp_path: Path, container: str, compression: str | None
) -> None:
    for number in range(2):
        own = RECORDS[50 * number :][:50]
        write_records(tmp_path / f"a-{number}", own, container, compression)
    other = "tfrecord" if container == "array_record" else "array_record"
    new = convert(tmp_path / "a-*", tmp_path / "new", container=other)
    assert records(tmp_path / "new") == RECORDS
    assert examples(new) == [50, 50]
    source = shards(tmp_path / "new")
    assert isinstance(source.take(tf.constant([7])).numpy()[0], bytes)
    assert sets.all_of(source).numpy().tolist() == RECORDS


@pytest.mark.parametrize("compression", [None, "GZIP"])
def test_shards_have_the_sizes_that_are_asked_for(tmp_path: Path, compression: str | None) -> None:
    packed_set(tmp_path / "old", compression=compression)
    new = convert(tmp_path / "old", tmp_path / "three", num_shards=3, jobs=2)
    assert examples(new) == [33, 33, 34]
    new = convert(tmp_path / "old", tmp_path / "small", shard_bytes=1000, jobs=2)
    assert max(shard.bytes for shard in new.shards) < 1400
    assert len(new.shards) in (10, 11, 12)
    assert records(tmp_path / "small") == records(tmp_path / "three") == records(tmp_path / "old")


def test_sizes_are_those_of_records_before_compression(tmp_path: Path) -> None:
    write_records(tmp_path / "a", [bytes(2000)] * 100, "tfrecord", None)
    convert(tmp_path / "a", tmp_path / "zipped", container="array_record")
    new = convert(tmp_path / "zipped", tmp_path / "new", shard_bytes=20_000)
    assert examples(new) == [10] * 10


def test_a_set_that_is_complete_is_not_written_again(tmp_path: Path) -> None:
    packed_set(tmp_path / "old")
    new = convert(tmp_path / "old", tmp_path / "new")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").iterdir()}
    assert convert(tmp_path / "old", tmp_path / "new") == new
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "new").iterdir()} == times
    with pytest.raises(ValueError, match="`folder` must be new, empty, or contain this pack"):
        convert(tmp_path / "old", tmp_path / "new", num_shards=2)


@pytest.mark.parametrize("compression", [None, pytest.param("GZIP", marks=pytest.mark.thorough)])
def test_killed_at_any_moment_it_continues_to_the_same_bytes(
    tmp_path: Path, compression: str | None
) -> None:
    write_records(tmp_path / "a", RECORDS * 300, "tfrecord", compression)
    command = ["data", "convert", str(tmp_path / "a"), str(tmp_path / "new")]
    whole = convert(tmp_path / "a", tmp_path / "whole", num_shards=30)
    status, _ = signalled(signal.SIGKILL, "examples-00007", *command, "--num_shards=30", "--jobs=1")
    assert status == -signal.SIGKILL
    assert not (tmp_path / "new" / "manifest.json").exists()
    kept = {path: path.stat().st_ino for path in sorted(tmp_path.glob("new/examples-*.tfrecord"))}
    assert len(kept) == 7
    assert convert(tmp_path / "a", tmp_path / "new", num_shards=30) == whole
    assert sets.contents(tmp_path / "new") == sets.contents(tmp_path / "whole")
    assert {path: path.stat().st_ino for path in kept} == kept


def test_ctrl_c_leaves_no_part_of_a_shard(tmp_path: Path) -> None:
    write_records(tmp_path / "a", RECORDS * 300, "tfrecord", None)
    command = ["data", "convert", str(tmp_path / "a"), str(tmp_path / "new")]
    status, _ = signalled(
        signal.SIGINT, "examples-00007", *command, "--num_shards=1000", "--jobs=2"
    )
    assert status == 130
    assert not (tmp_path / "new" / "manifest.json").exists()
    assert not list((tmp_path / "new").glob("*.partial"))


def test_a_damaged_record_is_not_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = packed_set(tmp_path / "old")
    path = tmp_path / "old" / old.shards[2].file
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecordFileError, match=f"Record 8 of {path} is damaged"):
        convert(tmp_path / "old", tmp_path / "new")
    assert main(["data", "convert", str(path), str(tmp_path / "other")]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert f"Record 8 of {path} is damaged" in printed.err


def test_a_folder_that_is_no_set_is_wrong_usage_and_a_damaged_manifest_is_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "convert", str(tmp_path / "old"), str(tmp_path / "new")]
    (tmp_path / "old").mkdir()
    assert main(command) == 2
    assert f"For record files without a manifest pass '{tmp_path / 'old' / '*'}'." in (
        capsys.readouterr().err
    )
    packed_set(tmp_path / "old")
    (tmp_path / "old" / "manifest.json").write_text("{}")
    assert main(command) == 1
    assert "manifest.json is damaged" in capsys.readouterr().err


def test_files_of_different_containers_are_refused(tmp_path: Path) -> None:
    write_records(tmp_path / "a", RECORDS, "tfrecord", None)
    write_records(tmp_path / "b", RECORDS, "tfrecord", "GZIP")
    with pytest.raises(ValueError, match=r"one container and compression. Received: tfrecord, tf"):
        convert([tmp_path / "a", tmp_path / "b"], tmp_path / "new")


def test_the_command_prints_what_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed_set(tmp_path / "old")
    command = ["data", "convert", str(tmp_path / "old"), str(tmp_path / "new"), "--num_shards=1"]
    assert main([*command, "--container=array_record", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["examples"], found["shards"], found["compression"]) == (100, 1, "zstd")
    assert main([*command, "--compression=zstd"]) == 2
    assert "`compression` of tfrecord must be one of" in capsys.readouterr().err


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_full_disk_is_named_and_room_lets_it_continue(tmp_path: Path) -> None:
    write_records(tmp_path / "a", RECORDS * 40, "tfrecord", None)
    with small_disk(tmp_path / "disk") as disk:
        filler = fill(disk)
        os.truncate(filler, filler.stat().st_size - 300_000)
        with pytest.raises(OSError, match="could not be written: No space left on device"):
            convert(tmp_path / "a", disk / "new", num_shards=5)
        assert not (disk / "new" / "manifest.json").exists()
        filler.unlink()
        convert(tmp_path / "a", disk / "new", num_shards=5)
        assert records(disk / "new") == RECORDS * 40
