"""Packed sets whose shards are missing, exchanged or damaged are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data import taking
from tests.unit.tfscale.data.packing import sets
from tfscale.data import pack, shards

_SOURCE = (np.arange(40), np.random.default_rng(0).integers(0, 256, [40, 300], np.uint8))


@pytest.fixture(params=sets.CONTAINERS, ids=lambda how: f"{how[0]}-{how[1]}")
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """A set of four shards of equal size. Returns the shards."""
    container, compression = request.param
    how = {"container": container, "compression": compression}
    manifest = pack(_SOURCE, tmp_path, num_shards=4, **how)
    return [tmp_path / shard.file for shard in manifest.shards]


def damage(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_missing_other_and_wrong_shards_are_all_named(packed: list[Path]) -> None:
    folder = packed[0].parent
    packed[0].unlink()
    packed[1].write_bytes(packed[1].read_bytes()[:-1])
    (folder / f"more{packed[0].suffix}").write_bytes(b"x")
    message = (
        rf"{packed[0].name} is missing; {packed[1].name} has \d+ bytes, not \d+; "
        rf"more{packed[0].suffix} is not in the manifest\. Run `tfscale data inspect"
    )
    with pytest.raises(ValueError, match=message):
        shards(folder)


def test_exchanged_shards_are_named(packed: list[Path]) -> None:
    indexes = [Path(f"{path}.tfindex") for path in packed[1:3]]
    for one, other in (packed[1:3], indexes):
        if one.exists():
            content = one.read_bytes()
            other.rename(one)
            other.write_bytes(content)
    if packed[1].stat().st_size == packed[2].stat().st_size:
        message = f"{packed[1].name} has the content of {packed[2].name}"
    else:
        message = f"{packed[1].name} has .* bytes"
    with pytest.raises(ValueError, match=message):
        shards(packed[0].parent)


def test_a_damaged_record_is_an_error_when_it_is_read(packed: list[Path]) -> None:
    damage(packed[2], packed[2].stat().st_size // 2)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError, tf.errors.DataLossError)):
        read_all(packed[0].parent)


def read_all(folder: Path) -> None:
    source = shards(folder)
    if isinstance(source, tf.data.Dataset):
        sets.all_of(source)
    else:
        taking.taken(source, list(range(40)))


def test_missing_indexes_are_made_again_and_wrong_ones_refused(tmp_path: Path) -> None:
    folder, other = tmp_path / "set", tmp_path / "indexes"
    pack(_SOURCE, folder, num_shards=2)
    indexes = sorted(folder.glob("*.tfindex"))
    before = [index.read_bytes() for index in indexes]
    for index in indexes:
        index.unlink()
    sets.assert_same(sets.all_of(shards(folder, index_dir=other)), _SOURCE)
    assert not list(folder.glob("*.tfindex"))
    sets.assert_same(sets.all_of(shards(folder)), _SOURCE)
    assert [index.read_bytes() for index in indexes] == before
    damage(indexes[0], 40)
    with pytest.raises(ValueError, match=r"the index of .* is damaged"):
        shards(folder)


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
def test_a_compressed_set_is_a_dataset_with_its_number_of_examples(
    compression: str, tmp_path: Path
) -> None:
    source: Any = {"image": _SOURCE[1], "label": _SOURCE[0]}
    pack(source, tmp_path, num_shards=3, compression=compression)
    dataset = shards(tmp_path)
    assert isinstance(dataset, tf.data.Dataset)
    assert int(dataset.cardinality()) == 40
    assert dataset.element_spec == {
        "image": tf.TensorSpec([300], tf.uint8),
        "label": tf.TensorSpec([], tf.int64),
    }
