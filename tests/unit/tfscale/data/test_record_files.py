"""TFRecord files with random access, compared with `tf.data.TFRecordDataset`."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data.taking import taken
from tests.unit.tfscale.records.record_makers import pieces, write
from tfscale.data import record_files
from tfscale.data.batches import Cut, random_access_batches
from tfscale.data.order import Order
from tfscale.data.sources import record_files as module

FEATURES = {
    "id": tf.io.FixedLenFeature([], tf.int64),
    "tokens": tf.io.RaggedFeature(tf.int64),
}


def example(number: int) -> bytes:
    def integers(values: list[int]) -> Any:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    of = {"id": integers([number]), "tokens": integers(list(range(number % 4)))}
    serialized: bytes = tf.train.Example(features=tf.train.Features(feature=of)).SerializeToString()
    return serialized


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Examples 0 to 22 in three files: 10, 1 and 12 of them."""
    for name, start, stop in (("a-0", 0, 10), ("a-1", 10, 11), ("a-2", 11, 23)):
        write(tmp_path / name, [example(number) for number in range(start, stop)])
    return tmp_path


def sequential(folder: Path) -> tf.data.Dataset:
    return tf.data.TFRecordDataset([str(folder / f"a-{number}") for number in range(3)])


@pytest.mark.parametrize("rows", [[22, 0, 9, 10, 11, 0], [], [10], [*range(23)]])
def test_records_are_those_that_tensorflow_reads_in_sequence(folder: Path, rows: list[int]) -> None:
    everything = list(sequential(folder).as_numpy_iterator())
    source = record_files(folder / "a-*")
    batch = taken(source, rows)
    assert source.num_examples == len(everything) == 23
    assert batch.numpy().tolist() == [everything[row] for row in rows]
    assert batch.shape == [len(rows)]


def test_features_are_those_of_parse_example(folder: Path) -> None:
    expected = next(iter(sequential(folder).batch(23)))
    parsed = tf.io.parse_example(expected, FEATURES)
    rows = [21, 3, 3, 0]
    batch = taken(record_files(folder / "a-*", features=FEATURES), rows)
    assert batch["id"].numpy().tolist() == tf.gather(parsed["id"], rows).numpy().tolist()
    assert batch["tokens"].to_list() == tf.gather(parsed["tokens"], rows).to_list()
    empty = taken(record_files(folder / "a-*", features=FEATURES), [])
    assert (empty["id"].shape, empty["tokens"].nrows()) == ([0], 0)


def test_decode_maps_one_example(folder: Path) -> None:
    def decode(parts: Any) -> Any:
        return tf.reduce_sum(parts["tokens"]), parts["id"] * 2

    sums, doubles = taken(record_files(folder / "a-*", features=FEATURES, decode=decode), [3, 2])
    assert (sums.numpy().tolist(), doubles.numpy().tolist()) == ([3, 1], [6, 4])


def test_decode_alone_takes_the_bytes(folder: Path) -> None:
    source = record_files(folder / "a-*", decode=tf.strings.length)
    assert taken(source, [22]).numpy().tolist() == [len(example(22))]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_worker_reads_the_bytes_of_its_own_records_only(
    folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = record_files(folder / "a-*")  # builds the indexes
    of_thread, calls = threading.local(), []
    read, from_file = source.reader.read, os.pread

    def counted_bytes(descriptor: int, size: int, offset: int) -> bytes:
        content = from_file(descriptor, size, offset)
        of_thread.read += len(content)
        return content

    def counted(rows: np.ndarray) -> Any:
        of_thread.read = 0
        records = read(rows)
        calls.append((len(rows), of_thread.read - sum(len(record) + 16 for record in records)))
        return records

    monkeypatch.setattr(os, "pread", counted_bytes)
    monkeypatch.setattr(source.reader, "read", counted)
    division = source.division(6, drop_remainder=True)
    seen: list[bytes] = []
    for worker in range(workers):
        cut = Cut(division, Order(seed=1), False, 0, 0, worker, 1, workers)
        batches = random_access_batches(source, cut, lambda batch, positions, epoch: batch)
        for batch in batches.take(division.steps):
            seen += batch.data.numpy().tolist()
    assert {*calls} == {(6 // workers, 0)}
    assert len({*seen}) == len(seen) == 18
    assert {*seen} < {*sequential(folder).as_numpy_iterator()}


def test_neighbours_are_one_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = record_files(folder / "a-*")
    reads, direct = [], os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        reads.append((offset, size))
        return direct(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    source.reader.read(np.array([2, 11, 1, 12, 5]))
    sizes = [len(example(number)) + 16 for number in range(23)]
    assert reads == [
        (sizes[0], sizes[1] + sizes[2]),
        (sum(sizes[:5]), sizes[5]),
        (0, sizes[11] + sizes[12]),
    ]
    reads.clear()
    monkeypatch.setattr(module, "_GROUP_BYTES", 100)
    assert source.reader.read(np.arange(10)).tolist() == [example(number) for number in range(10)]
    assert len(reads) > 3


def changed(damage: str, content: bytes, other: bytes) -> bytes:
    """Returns what is in a-0 after its index was built."""
    found = pieces(content)
    edited, of_length = bytearray(content), bytearray(content)
    edited[20] ^= 1
    of_length[8] ^= 1
    return {
        "edited": bytes(edited),
        "edited checksum of a length": bytes(of_length),
        "records in another order": b"".join([found[4], *found[1:4], found[0], *found[5:]]),
        "another file": other,
        "truncated": content[:-1],
        "longer": content + found[0],
    }[damage]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("edited", r"Record 0 of .*a-0.* is damaged: its data does not match its checksum"),
        ("edited checksum of a length", r"Record 0 of .*a-0 is not .*: its length is another one"),
        ("records in another order", r"Record 0 of .*a-0 is not the one that was indexed"),
        ("another file", r"a-0 has \d+ bytes, but had \d+ when it was indexed"),
        ("truncated", r"a-0 has \d+ bytes, but had \d+ when it was indexed"),
        ("longer", r"a-0 has \d+ bytes, but had \d+ when it was indexed"),
    ],
)
def test_a_file_that_changed_under_its_index_is_refused_at_the_record(
    folder: Path, damage: str, message: str
) -> None:
    source, path = record_files(folder / "a-*"), folder / "a-0"
    assert taken(source, [0, 11]).shape == [2]
    path.write_bytes(changed(damage, path.read_bytes(), (folder / "a-2").read_bytes()))
    assert taken(source, [11]).numpy().tolist() == [example(11)]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        taken(source, [0])


def test_files_of_the_same_size_that_changed_places_are_refused(tmp_path: Path) -> None:
    for name in "xy":
        write(tmp_path / name, [f"{name} {number}".encode() for number in range(9)])
    source = record_files([tmp_path / "x", tmp_path / "y"])
    (tmp_path / "x").rename(tmp_path / "z")
    (tmp_path / "y").rename(tmp_path / "x")
    (tmp_path / "z").rename(tmp_path / "y")
    again = record_files([tmp_path / "x", tmp_path / "y"])  # finds the old indexes
    assert again.fingerprint == source.fingerprint
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Record 3 of .* is not the one"):
        taken(again, [3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (gzip.compress(b"a", mtime=0), r"is compressed \(GZIP\)"),
        (b"no records", "is not a TFRecord file"),
    ],
)
def test_a_file_without_records_is_refused_when_the_source_is_built(
    folder: Path, content: bytes, message: str
) -> None:
    (folder / "a-1").write_bytes(content)
    with pytest.raises(ValueError, match=f"a-1 {message}"):
        record_files(folder / "a-*")
    assert not (folder / "a-1.tfindex").exists()


def test_a_damaged_index_is_refused_with_the_cure(folder: Path) -> None:
    record_files(folder / "a-*")
    path = folder / "a-1.tfindex"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a-1.tfindex, .* is damaged\. Run `tfscale data index`"):
        record_files(folder / "a-*")


def test_an_index_may_be_in_another_folder(folder: Path) -> None:
    source = record_files(folder / "a-0", index_dir=folder / "i" / "j")
    assert not list(folder.glob("*.tfindex"))
    assert len(list((folder / "i" / "j").iterdir())) == 1
    assert taken(source, [9]).numpy().tolist() == [example(9)]


def test_the_fingerprint_is_of_the_records_and_not_of_their_place(folder: Path) -> None:
    source = record_files(folder / "a-0")
    (folder / "a-0").rename(folder / "b")
    assert record_files(folder / "b").fingerprint == source.fingerprint
    assert record_files([folder / "b", folder / "a-1"]).fingerprint != source.fingerprint
    write(folder / "b", [example(number) for number in (0, 2, 1, *range(3, 10))])
    (folder / "b.tfindex").unlink()
    assert record_files(folder / "b").fingerprint != source.fingerprint


def test_threads_read_many_files_with_few_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        write(tmp_path / f"a-{number:02}", [f"{number} {i}".encode() for i in range(10)])
    readers = [record_files(tmp_path / "a-*").reader]
    monkeypatch.setattr(module, "_MAX_IDLE", 8)
    opened_before, wrong = len(os.listdir("/proc/self/fd")), []  # noqa: PTH208

    def read(seed: int) -> None:
        chance = np.random.default_rng(seed)
        for _ in range(20):
            rows = chance.integers(0, 300, 40)
            expected = [f"{row // 10} {row % 10}".encode() for row in rows]
            if readers[0].read(rows).tolist() != expected:
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(os.listdir("/proc/self/fd")) <= opened_before + 8  # noqa: PTH208
    readers.clear()
    assert len(os.listdir("/proc/self/fd")) <= opened_before  # noqa: PTH208


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "`features` must be"),
        (["image"], "`features` must be"),
        ({"a": tf.io.VarLenFeature(tf.int64)}, "Use RaggedFeature for VarLenFeature"),
    ],
)
def test_features_that_make_sparse_tensors_are_refused(
    folder: Path, features: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        record_files(folder / "a-0", features=features)
