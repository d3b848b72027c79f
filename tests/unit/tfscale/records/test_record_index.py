"""Indexes of TFRecord files, compared with what TensorFlow writes and reads."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import google_crc32c
import pytest

from tests.unit.tfscale.records.record_makers import pieces, read, write
from tfscale.records.index import (
    RecordFileError,
    index_path,
    masked,
    read_index,
    scanned,
    write_index,
)

RECORDS = [b"one", b"", b"x" * 5000, b"four"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "a.tfrecord", RECORDS)


def test_checksums_are_those_of_the_rfc() -> None:
    # RFC 3720, B.4: 32 bytes of zeros, and the 32 bytes 0 to 31.
    assert google_crc32c.value(bytes(32)) == 0x8A9136AA
    assert google_crc32c.value(bytes(range(32))) == 0x46DD794E


def test_an_index_has_the_lengths_and_checksums_of_the_file(source: Path) -> None:
    index = scanned(str(source))
    stored = [struct.unpack("<I", piece[-4:])[0] for piece in pieces(source.read_bytes())]
    assert index.source_size == source.stat().st_size
    assert index.lengths.tolist() == [len(record) for record in read(source)] == [3, 0, 5000, 4]
    assert index.checksums.tolist() == stored


def test_an_index_on_disk_is_what_its_format_says(source: Path) -> None:
    path = index_path(str(source))
    write_index(path, scanned(str(source)))
    stored = [struct.unpack("<I", piece[-4:])[0] for piece in pieces(source.read_bytes())]
    body = b"TFSINDEX" + struct.pack("<IQQ", 1, source.stat().st_size, 4)
    body += struct.pack("<4Q4I", 3, 0, 5000, 4, *stored)
    assert path.name == "a.tfrecord.tfindex"
    assert path.read_bytes() == body + struct.pack("<I", google_crc32c.value(body))


def test_an_index_that_was_written_is_read(source: Path) -> None:
    index, path = scanned(str(source)), index_path(str(source))
    write_index(path, index)
    assert read_index(path, str(source)).to_bytes() == index.to_bytes()


def test_records_longer_than_a_read_have_the_same_checksum(tmp_path: Path) -> None:
    record = os.urandom(3 << 20) * 3
    path = write(tmp_path / "long", [record, b"a", record])
    done: list[int] = []
    index = scanned(str(path), done.append)
    assert index.checksums.tolist()[0] == masked(google_crc32c.value(record))
    assert done == [len(record) + 16, path.stat().st_size]


def test_every_changed_byte_of_an_index_is_found(source: Path) -> None:
    path = index_path(str(source))
    write_index(path, scanned(str(source)))
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(RecordFileError, match=r"the index of .* is damaged"):
            read_index(path, str(source))
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(RecordFileError, match="is damaged"):
            read_index(path, str(source))


@pytest.mark.parametrize(
    ("version", "count", "lengths", "message"),
    [
        (2, 4, [3, 0, 5000, 4], "is of version 2, not 1"),
        (1, 5, [3, 0, 5000, 4], "is damaged"),
        (1, 2**60, [3, 0, 5000, 4], "is damaged"),
        (1, 0, [], "is damaged"),
        (1, 4, [3, 0, 5000, 5], "is damaged"),
        (1, 4, [3, 0, 5000, 2**64 - 1], "is damaged"),
    ],
)
def test_an_index_with_a_right_checksum_and_a_wrong_content_is_refused(
    source: Path, version: int, count: int, lengths: list[int], message: str
) -> None:
    body = b"TFSINDEX" + struct.pack("<IQQ", version, source.stat().st_size, count)
    body += struct.pack(f"<{len(lengths)}Q{len(lengths)}I", *lengths, *[0] * len(lengths))
    path = index_path(str(source))
    path.write_bytes(body + struct.pack("<I", google_crc32c.value(body)))
    with pytest.raises(RecordFileError, match=message):
        read_index(path, str(source))


def test_an_index_of_a_file_of_another_size_is_refused(source: Path) -> None:
    path = index_path(str(source))
    write_index(path, scanned(str(source)))
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(RecordFileError, match=r"5070 bytes, but had 5071 when .* data index`"):
        read_index(path, str(source))


@pytest.mark.parametrize("left", [1, 4, 11, 16, 5017])
def test_a_truncated_file_is_named_with_its_last_record(source: Path, left: int) -> None:
    content = source.read_bytes()
    source.write_bytes(content[: -20 - 5016 + left])  # of the third record, and then the fourth
    number = 2 if left < 5016 else 3
    with pytest.raises(RecordFileError, match=f"Record {number} of .*: the file ends within it"):
        scanned(str(source))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (gzip.compress(b"anything", mtime=0), r"compressed \(GZIP\).*compression_type='GZIP'"),
        (zlib.compress(b"anything"), r"compressed \(ZLIB\)"),
        (b"label,text\n1,one\n", "is not a TFRecord file"),
        (b"short", "is not a TFRecord file"),
    ],
)
def test_another_file_is_refused_with_the_cure(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(RecordFileError, match=message):
        scanned(str(path))


def test_files_of_the_same_name_have_different_indexes_in_a_folder(tmp_path: Path) -> None:
    paths = [index_path(str(tmp_path / name / "a"), tmp_path / "i") for name in "xy"]
    assert len({*paths}) == 2
    assert {path.parent for path in paths} == {tmp_path / "i"}


def test_a_path_and_its_relative_form_have_one_index_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert index_path("a", "i").name == index_path(str(tmp_path / "a"), "i").name


def test_a_folder_that_cannot_be_written_is_an_error_with_the_cure(source: Path) -> None:
    with pytest.raises(OSError, match="Choose another folder with index_dir="):
        write_index(source / "i" / "a.tfindex", scanned(str(source)))
