"""What comes from a server that works, and from one that does not."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordWriter

from tests.unit.tfscale.data.remote.web_server import Site, serving
from tests.unit.tfscale.data.taking import taken
from tfscale.data import array_record, csv, local_copies, pack, parquet, record_files, shards
from tfscale.data.remote import protocols

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(protocols, "_FIRST_PAUSE_SECONDS", 0.01)
    with serving() as found:
        found.files["a.bin"] = CONTENT
        yield found


def copied(address: str, where: Path, seconds: float = 60.0) -> bytes:
    (path,) = local_copies(address, where, deadline_seconds=seconds)
    return Path(path).read_bytes()


def whole_copies(where: Path) -> list[Path]:
    return [path.parent for path in where.glob("*/source.json")]


def partial_copies(where: Path) -> list[Path]:
    return [*where.glob(".*.partial"), *where.glob("*.claim-*")]


def test_a_file_is_copied_once_with_its_name(site: Site, tmp_path: Path) -> None:
    for _ in range(3):
        (path,) = local_copies(site.url("a.bin") + "?v=1", tmp_path)
        assert Path(path).name == "a.bin"
        assert Path(path).read_bytes() == CONTENT
    assert site.requests["GET a.bin"] == 1


def test_a_file_that_changed_is_copied_again(site: Site, tmp_path: Path) -> None:
    copied(site.url("a.bin"), tmp_path)
    site.files["a.bin"] = CONTENT[::-1]
    assert copied(site.url("a.bin"), tmp_path) == CONTENT[::-1]
    assert len(whole_copies(tmp_path)) == 2


@pytest.mark.parametrize("fault", ["break", "short", "error"])
def test_a_transfer_that_fails_twice_is_tried_again(
    fault: str, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.faults["a.bin"] = (fault, 2)
    assert copied(site.url("a.bin"), tmp_path) == CONTENT
    assert "next try in" in capsys.readouterr().err or fault == "error"
    assert partial_copies(tmp_path) == []


@pytest.mark.parametrize("fault", ["break", "short", "error"])
def test_a_transfer_that_always_fails_ends_at_the_deadline_and_leaves_nothing(
    fault: str, site: Site, tmp_path: Path
) -> None:
    site.faults["a.bin"] = (fault, 10**6)
    with pytest.raises(protocols.TransferError, match=r"Could not \w+ http.* in 0 s and \d+ tries"):
        copied(site.url("a.bin"), tmp_path, seconds=0.3)
    assert whole_copies(tmp_path) == partial_copies(tmp_path) == []


def test_a_slow_server_ends_at_the_deadline(site: Site, tmp_path: Path) -> None:
    site.files["a.bin"] = CONTENT * 10
    site.faults["a.bin"] = ("slow", 10**6)  # 102 s
    began = time.monotonic()
    with pytest.raises(protocols.TransferError, match=r"the time is over. Check the server"):
        copied(site.url("a.bin"), tmp_path, seconds=0.5)
    assert time.monotonic() - began < 60
    assert whole_copies(tmp_path) == []


def test_a_server_that_gives_no_byte_for_long_is_left(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "_SILENCE_SECONDS", 1.0)
    site.faults["a.bin"] = ("silent", 1)
    assert copied(site.url("a.bin"), tmp_path, seconds=120.0) == CONTENT
    assert site.requests["GET a.bin"] >= 2


def test_a_missing_file_is_an_error_at_once(site: Site, tmp_path: Path) -> None:
    with pytest.raises(protocols.TransferError, match=r"Could not read http.*nothing.*404"):
        copied(site.url("nothing"), tmp_path)
    assert max(site.requests.values()) == 1  # it is not tried again


def test_a_file_without_a_size_is_refused(site: Site, tmp_path: Path) -> None:
    site.faults["a.bin"] = ("no size", 10)
    with pytest.raises(protocols.TransferError, match=r"no known size, .* Download it, and pass"):
        copied(site.url("a.bin"), tmp_path)


def test_a_file_that_changes_meanwhile_is_refused(site: Site, tmp_path: Path) -> None:
    site.faults["a.bin"] = ("changes", 1)
    with pytest.raises(protocols.TransferError, match="changed while it was downloaded"):
        copied(site.url("a.bin"), tmp_path)
    assert whole_copies(tmp_path) == partial_copies(tmp_path) == []


def test_passwords_and_signatures_are_not_shown(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.faults["a.bin"] = ("short", 1)
    copied(site.url("a.bin") + "?X-Signature=abcdef&sig=xyzzy", tmp_path)
    (record,) = tmp_path.glob("*/source.json")
    shown = capsys.readouterr().err + record.read_text()
    assert "next try" in shown
    assert "abcdef" not in shown
    assert "xyzzy" not in shown
    with pytest.raises(OSError, match=r"[^x]") as error:
        copied(site.url("nothing") + "?sig=xyzzy", tmp_path)
    assert "xyzzy" not in str(error.value)


def test_patterns_of_memory_and_of_tensorflow_are_sorted(tmp_path: Path) -> None:
    for scheme in ("memory", "ram"):
        folder = f"{scheme}://{uuid.uuid4().hex}"
        for name in ("b-1", "b-0", "c-0"):
            if scheme == "ram":
                tf.io.gfile.makedirs(folder)
                with tf.io.gfile.GFile(f"{folder}/{name}", "w") as file:
                    file.write(name)
            else:
                with fsspec.open(f"{folder}/{name}", "w") as file:
                    file.write(name)
        local = tmp_path / "local"
        local.write_text("here")
        paths = local_copies([local, f"{folder}/b-*"], tmp_path / "copies")
        assert [Path(path).read_text() for path in paths] == ["here", "b-0", "b-1"]
        with pytest.raises(ValueError, match=r"must match at least one file. Received: .*none\*'"):
            local_copies(f"{folder}/none*", tmp_path)
        with pytest.raises(protocols.TransferError, match=r"Could not read .*/none"):
            local_copies(f"{folder}/none", tmp_path)


def test_sources_read_addresses(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    table = pyarrow.table({"x": np.arange(5), "y": np.arange(5) * 2})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "t.csv")
    writer = ArrayRecordWriter(str(tmp_path / "t.array_record"), "group_size:1")
    with tf.io.TFRecordWriter(str(tmp_path / "t.tfrecord")) as records:
        for i in range(5):
            writer.write(b"%d" % i)
            records.write(b"%d" % i)
    writer.close()
    for path in tmp_path.glob("t.*"):
        site.files[path.name] = path.read_bytes()
    for read in (parquet, csv):
        found = read(site.url(f"t.{read.__name__}"))
        assert taken(found, [3, 1])["y"].numpy().tolist() == [6, 2]
        assert found.fingerprint == read(str(tmp_path / f"t.{read.__name__}")).fingerprint
    for name in ("array_record", "tfrecord"):
        records_of: Any = array_record if name == "array_record" else record_files
        assert taken(records_of(site.url(f"t.{name}")), [3, 1]).numpy().tolist() == [b"3", b"1"]


@pytest.mark.parametrize("container", ["tfrecord", "array_record"])
def test_a_packed_set_is_read_from_an_address(
    container: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packed_set = tmp_path / "set"
    pack({"x": np.arange(10)}, packed_set, container=container, num_shards=2)
    site.files |= {f"set/{path.name}": path.read_bytes() for path in packed_set.iterdir()}
    for _ in range(2):
        found = shards(site.url("set"))
        assert taken(found, [7, 3])["x"].numpy().tolist() == [7, 3]
    assert found.fingerprint == shards(packed_set).fingerprint
    assert max(site.requests[f"GET set/{path.name}"] for path in packed_set.iterdir()) == 1


def test_an_unknown_scheme_and_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"must be local paths or addresses of a known scheme"):
        local_copies("nonsense://a", tmp_path)
    with pytest.raises(ValueError, match=r"`where` must be a local folder"):
        local_copies("memory://a", "gs://bucket")
    with pytest.raises(ValueError, match=r"`deadline_seconds` must be positive"):
        local_copies("memory://a", tmp_path, deadline_seconds=0)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ImportError, match=r"http:// needs aiohttp.* pip install 'tfscale\[data\]'"):
        local_copies("http://localhost/a", tmp_path)
