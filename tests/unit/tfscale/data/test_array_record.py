"""ArrayRecord files, written by their own library; what was written is the oracle."""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data.taking import taken
from tfscale.data import array_record
from tfscale.data.sources import array_record_files as module

library = pytest.importorskip("array_record.python.array_record_module")

FEATURES = {"id": tf.io.FixedLenFeature([], tf.int64)}


def record(number: int) -> bytes:
    return random.Random(number).randbytes(number % 7 * 50)


def write(path: Path, records: list[bytes], options: str = "group_size:1") -> Path:
    writer = library.ArrayRecordWriter(str(path), options)
    for one in records:
        writer.write(one)
    writer.close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Records 0 to 22 in three files: 10, 1 and 12 of them."""
    for name, start, stop in (("a-0", 0, 10), ("a-1", 10, 11), ("a-2", 11, 23)):
        write(tmp_path / name, [record(number) for number in range(start, stop)])
    return tmp_path


@pytest.mark.parametrize("rows", [[22, 0, 9, 10, 11, 0], [], [10], [*range(23)]])
def test_records_are_those_that_were_written(folder: Path, rows: list[int]) -> None:
    source = array_record(folder / "a-*")
    batch = taken(source, rows)
    assert source.num_examples == 23
    assert batch.numpy().tolist() == [record(row) for row in rows]
    assert batch.shape == [len(rows)]


def test_features_are_parsed_and_decode_maps_one_example(tmp_path: Path) -> None:
    def example(number: int) -> bytes:
        feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))
        features = tf.train.Features(feature={"id": feature})
        serialized: bytes = tf.train.Example(features=features).SerializeToString()
        return serialized

    path = write(tmp_path / "a", [example(number) for number in range(5)])
    assert taken(array_record(path, features=FEATURES), [3, 1])["id"].numpy().tolist() == [3, 1]
    doubled = array_record(path, features=FEATURES, decode=lambda parts: parts["id"] * 2)
    assert taken(doubled, [3, 1]).numpy().tolist() == [6, 2]


def test_larger_groups_are_refused_unless_their_cost_is_accepted(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [record(number) for number in range(20)], "group_size:8")
    with pytest.raises(ValueError, match=r"at most 1 record\. .* groups of 8.*max_group_size=8"):
        array_record(path)
    with pytest.raises(ValueError, match=r"at most 4 records\."):
        array_record(path, max_group_size=4)
    source = array_record(path, max_group_size=8)
    assert taken(source, [19, 0]).numpy().tolist() == [record(19), record(0)]


def test_groups_of_an_unknown_size_are_refused() -> None:
    with pytest.raises(ValueError, match="a does not say how many records a group has"):
        module._check_groups("a", "", 1)


@pytest.mark.parametrize("damage", ["edited", "truncated", "another file"])
def test_a_file_that_changes_is_refused_when_its_records_are_read(
    folder: Path, damage: str
) -> None:
    path = folder / "a-0"
    source, content = array_record(folder / "a-*"), path.read_bytes()
    assert taken(source, [3]).numpy().tolist() == [record(3)]
    if damage == "another file":
        write(path, [record(number + 1) for number in range(10)])
    else:
        path.write_bytes(content[:300] if damage == "truncated" else edited(content))
    assert taken(source, [11]).numpy().tolist() == [record(11)]
    with pytest.raises(tf.errors.InvalidArgumentError, match="a-0 changed after the source"):
        taken(source, [3])


def edited(content: bytes) -> bytes:
    """Returns a file with a changed byte in record 3."""
    place = content.index(record(3)[:20])
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_record_that_was_damaged_before_is_found_by_its_checksum(folder: Path) -> None:
    path = folder / "a-0"
    path.write_bytes(edited(path.read_bytes()))
    source = array_record(path)
    assert taken(source, [2]).numpy().tolist() == [record(2)]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"a-0 is damaged: .*hash mismatch"):
        taken(source, [3])


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "no records"])
def test_a_file_without_records_is_refused(folder: Path, kind: str) -> None:
    path, content = folder / "a-1", (folder / "a-1").read_bytes()
    if kind == "no records":
        write(path, [])
    else:
        path.write_bytes({"empty": b"", "text": b"a,b\n1,2\n", "truncated": content[:-1]}[kind])
    with pytest.raises(ValueError, match=r"Received: .*a-1: "):
        array_record(folder / "a-*")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"files": "no-file"}, "must match at least one file"),
        ({"max_group_size": 0}, "`max_group_size`"),
        ({"features": {"a": tf.io.VarLenFeature(tf.int64)}}, "Use RaggedFeature"),
    ],
)
def test_wrong_arguments_are_refused(folder: Path, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        array_record(**{"files": folder / "a-0", **arguments})


def test_without_the_library_the_cure_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "array_record.python", None)
    with pytest.raises(ImportError, match=r"pip install 'tfscale\[data\]'"):
        array_record(folder / "a-0")


def test_the_fingerprint_is_of_the_content(folder: Path) -> None:
    before = array_record(folder / "a-0").fingerprint
    assert array_record(folder / "a-0").fingerprint == before
    write(folder / "a-0", [record(number) for number in (0, 2, 1, *range(3, 10))])
    assert array_record(folder / "a-0").fingerprint != before


def test_threads_read_many_files_with_few_of_them_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        write(tmp_path / f"a-{number:02}", [f"{number} {i}".encode() for i in range(10)])
    monkeypatch.setattr(module, "_MAX_OPEN", 3)
    reader: Any = array_record(tmp_path / "a-*").reader
    wrong = []

    def read(seed: int) -> None:
        chance = np.random.default_rng(seed)
        for _ in range(10):
            rows = chance.integers(0, 120, 40)
            if reader.read(rows).tolist() != [f"{r // 10} {r % 10}".encode() for r in rows]:
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(reader._open) == 3
