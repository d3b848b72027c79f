"""What a file of records contains, of every container; damage at random places is never missed."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordWriter

from tfscale.records.content import Content, examined, format_of, records_in
from tfscale.records.index import RecordFileError, scanned

FORMATS = ["tfrecord", "GZIP", "ZLIB", "array_record"]
# The length of the first looks like the start of a GZIP file.
RECORDS = [b"x" * 0x8B1F, b"", *(random.Random(n).randbytes(n * 40) for n in range(30))]


def write(path: Path, of: str, records: list[bytes] = RECORDS) -> Path:
    if of == "array_record":
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
    else:
        with tf.io.TFRecordWriter(str(path), "" if of == "tfrecord" else of) as stream:
            for record in records:
                stream.write(record)
    return path


def content(path: Path) -> Content:
    return examined(str(path), lambda done: None)


@pytest.mark.parametrize("of", FORMATS)
def test_container_records_and_hash_of_an_undamaged_file(tmp_path: Path, of: str) -> None:
    path = write(tmp_path / "a", of)
    found = content(path)
    container = "array_record" if of == "array_record" else "tfrecord"
    compression = of if of in ("GZIP", "ZLIB") else ""
    assert format_of(str(path)) == (found.container, found.compression) == (container, compression)
    assert (found.records, found.data_size) == (len(RECORDS), sum(map(len, RECORDS)))
    assert found.size == path.stat().st_size
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.problem == ""
    assert list(records_in(str(path))) == RECORDS
    if of == "tfrecord":
        assert found.index is not None
        assert found.index.to_bytes() == scanned(str(path)).to_bytes()
    else:
        assert found.index is None


@pytest.mark.parametrize("of", ["GZIP", "ZLIB"])
def test_compressed_files_that_follow_each_other_are_one_file(tmp_path: Path, of: str) -> None:
    first, second = write(tmp_path / "a", of), write(tmp_path / "b", of, [b"more"])
    path = tmp_path / "c"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert list(records_in(str(path))) == [*RECORDS, b"more"]


@pytest.mark.parametrize("of", FORMATS)
def test_a_truncated_file_and_a_flipped_bit_are_damage(tmp_path: Path, of: str) -> None:
    whole = write(tmp_path / "a", of).read_bytes()
    path = tmp_path / "b"
    generator = random.Random(of)
    for trial in range(60):
        damaged = bytearray(whole)
        if trial % 2:
            place = generator.randrange(len(whole) * 8)
            damaged[place // 8] ^= 1 << place % 8
        else:
            # A cut between two records of an uncompressed TFRecord file leaves a whole file.
            del damaged[generator.randrange(len(whole)) :]
        path.write_bytes(damaged)
        found = content(path)
        assert found.sha256 == hashlib.sha256(damaged).hexdigest()
        if found.problem:
            with pytest.raises(RecordFileError):
                list(records_in(str(path)))
        else:  # what no checksum of the container covers, such as padding
            assert list(records_in(str(path))) == RECORDS[: found.records]
            assert of == "array_record" or len(damaged) < len(whole)


@pytest.mark.parametrize("of", ["GZIP", "ZLIB"])
def test_a_compressed_file_without_its_last_byte_is_damaged(tmp_path: Path, of: str) -> None:
    path = write(tmp_path / "a", of)
    path.write_bytes(path.read_bytes()[:-1])  # all records are complete
    assert content(path).problem == (
        f"The compressed content of {path} is damaged: the file ends too early. Restore the file "
        "from its origin."
    )


@pytest.mark.parametrize("of", FORMATS)
def test_trailing_bytes_are_damage(tmp_path: Path, of: str) -> None:
    path = write(tmp_path / "a", of)
    path.write_bytes(path.read_bytes() + b"and more")
    assert "is damaged: " in content(path).problem or of == "array_record"


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert content(tmp_path / "a").problem.endswith(
        "has no records. Write it again, or leave it out."
    )
    assert list(records_in(str(tmp_path / "a"))) == []
