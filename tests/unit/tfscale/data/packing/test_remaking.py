"""Lost shards are made again with their bytes, and only from the source that was packed."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.faults.disks import fill, missing, small_disk
from tests.unit.tfscale.data.packing import sets
from tests.unit.tfscale.data.packing.slow_pack import killed, packed, repaired
from tfscale.data import image_folder, pack
from tfscale.data.packing import remaking, shard_files
from tfscale.data.packing.plan import contents
from tfscale.data.packing.remaking import SourceChangedError, remake
from tfscale.records.verification import REMADE, verified

ARRAYS = {"x": np.arange(200), "y": np.random.default_rng(0).normal(size=[200, 5])}


def stream() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(ARRAYS)


def visible(folder: Path) -> dict[str, bytes]:
    """The bytes of the files of a set, without what a kill may leave: a hidden part of an index."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
    }


def lost(folder: Path, manifest: Any) -> list[str]:
    """The shards that need a source."""
    found = verified(folder, manifest, jobs=1, say=print)
    return [state.file for state in found if state.state in REMADE]


@pytest.mark.parametrize(("container", "compression"), sets.CONTAINERS)
@pytest.mark.parametrize("source", [ARRAYS, stream], ids=["arrays", "stream"])
def test_shards_are_made_again_with_their_bytes(
    tmp_path: Path, container: str, compression: str | None, source: Any
) -> None:
    source = source() if callable(source) else source
    manifest = pack(source, tmp_path, container=container, compression=compression, num_shards=6)
    before = sets.contents(tmp_path)
    files = [shard.file for shard in manifest.shards]
    (tmp_path / files[1]).unlink()
    (tmp_path / f"{files[1]}.tfindex").unlink(missing_ok=True)
    (tmp_path / files[3]).write_bytes(before[files[3]][:-1])
    (tmp_path / files[4]).write_bytes(before[files[0]])
    assert lost(tmp_path, manifest) == [files[1], files[3], files[4]]
    said: list[str] = []
    remake(tmp_path, manifest, lost(tmp_path, manifest), contents(source), say=said.append)
    assert sets.contents(tmp_path) == before
    assert len(said) == 3
    assert said[0] == f"{files[1]} was made again: 33 examples, the same bytes"


def test_images_are_made_again_from_their_folder(tmp_path: Path) -> None:
    for number in range(9):
        image = tf.random.stateless_uniform([9, 8, 3], (1, number), 0, 256, tf.int32)
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(tf.cast(image, tf.uint8)).numpy())
    manifest = pack(image_folder(tmp_path / "images"), tmp_path / "set", num_shards=3)
    before = sets.contents(tmp_path / "set")
    (tmp_path / "set" / manifest.shards[1].file).unlink()
    again = contents(image_folder(tmp_path / "images"))
    remake(tmp_path / "set", manifest, lost(tmp_path / "set", manifest), again, say=print)
    assert sets.contents(tmp_path / "set") == before


def test_another_source_is_refused_before_it_is_read(tmp_path: Path) -> None:
    manifest = pack(ARRAYS, tmp_path, num_shards=2)
    (tmp_path / manifest.shards[0].file).unlink()
    before = sets.contents(tmp_path)
    changed = {**ARRAYS, "x": np.arange(200) + 1}
    for other in (changed, {"x": np.arange(7)}):
        with pytest.raises(SourceChangedError, match="`source` must be what was packed, with"):
            remake(tmp_path, manifest, lost(tmp_path, manifest), contents(other), say=print)
    assert sets.contents(tmp_path) == before


def test_a_changed_source_that_is_noticed_late_changes_no_shard(tmp_path: Path) -> None:
    manifest = pack(stream(), tmp_path, num_shards=2)
    (tmp_path / manifest.shards[1].file).write_bytes(b"damaged")
    before = sets.contents(tmp_path)
    values = ARRAYS["x"].copy()
    values[150] = 0  # after the examples that the key of a stream contains
    changed = tf.data.Dataset.from_tensor_slices({**ARRAYS, "x": values})
    with pytest.raises(SourceChangedError, match="its examples 100 to 199 are not those that were"):
        remake(tmp_path, manifest, lost(tmp_path, manifest), contents(changed), say=print)
    assert sets.contents(tmp_path) == before


def test_a_stream_that_ends_too_early_is_another_source(tmp_path: Path) -> None:
    def numbers(count: int) -> tf.data.Dataset:  # of unknown cardinality
        return tf.data.Dataset.range(200).filter(lambda x: x < count)

    manifest = pack(numbers(200), tmp_path, shard_bytes=2000)
    last = manifest.shards[-1]
    (tmp_path / last.file).unlink()
    cut = contents(numbers(last.first))
    with pytest.raises(SourceChangedError, match=f"its examples {last.first} to 199 are not those"):
        remake(tmp_path, manifest, lost(tmp_path, manifest), cut, say=print)


def test_an_interrupted_repair_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = pack(ARRAYS, tmp_path, num_shards=3)
    before = sets.contents(tmp_path)
    for shard in manifest.shards:
        (tmp_path / shard.file).unlink()
    written = []

    def interrupted(*arguments: Any) -> Any:
        written.append(arguments)
        if len(written) == 2:
            raise KeyboardInterrupt
        return write(*arguments)

    write = shard_files.write_shard
    with monkeypatch.context() as patch:
        patch.setattr(remaking, "write_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remake(tmp_path, manifest, lost(tmp_path, manifest), contents(ARRAYS), say=print)
    assert not (tmp_path / ".repair").exists()
    (tmp_path / ".repair").mkdir()  # as a kill leaves it
    (tmp_path / ".repair" / "x.partial").touch()
    assert len(lost(tmp_path, manifest)) == 2
    remake(tmp_path, manifest, lost(tmp_path, manifest), contents(ARRAYS), say=print)
    assert sets.contents(tmp_path) == before


@pytest.mark.thorough
@pytest.mark.parametrize(("container", "compression"), sets.CONTAINERS)
def test_killed_at_random_moments_a_repair_ends_with_the_original_bytes(
    tmp_path: Path, container: str, compression: str | None
) -> None:
    folder = tmp_path / "set"
    packed(folder, "source", container, compression or "none", 0.0)
    before = sets.contents(folder)
    shards = sorted(folder.glob("*record"))
    generator = random.Random(f"{container} {compression}")
    for _ in range(20):
        lost, cut, one, two, indexed, *_ = generator.sample(shards, 8)
        lost.unlink()
        cut.write_bytes(before[cut.name][: generator.randrange(1, 500)])
        one.write_bytes(before[two.name])
        two.write_bytes(before[one.name])
        Path(f"{indexed}.tfindex").unlink(missing_ok=True)
        kills = 0
        while visible(folder) != before and kills < 3:
            killed(generator.uniform(0, 0.3), folder, 0.004, work=repaired)
            kills += 1
        repaired(folder, 0.0)
        assert visible(folder) == before


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_full_disk_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        manifest = pack(ARRAYS, disk / "set", num_shards=2)
        before = sets.contents(disk / "set")
        (disk / "set" / manifest.shards[0].file).unlink()
        filler = fill(disk)
        files = lost(disk / "set", manifest)
        with pytest.raises(OSError, match="could not be written: No space left on device"):
            remake(disk / "set", manifest, files, contents(ARRAYS), say=print)
        assert lost(disk / "set", manifest) == files
        filler.unlink()
        remake(disk / "set", manifest, files, contents(ARRAYS), say=print)
        assert sets.contents(disk / "set") == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    manifest = pack(ARRAYS, tmp_path / "set", num_shards=2)
    (tmp_path / "set" / manifest.shards[0].file).unlink()
    (tmp_path / "set").chmod(0o500)
    files = lost(tmp_path / "set", manifest)
    with pytest.raises(OSError, match="could not be written: Permission denied"):
        remake(tmp_path / "set", manifest, files, contents(ARRAYS), say=print)
