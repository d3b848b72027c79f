"""The folder of copies: budget, eviction, several processes, damage."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strategies.extension import Deadline
from tests.unit.tfscale.data.remote.web_server import Site, serving
from tfscale.data import local_copies
from tfscale.data.remote import copying, protocols
from tfscale.data.remote.copy_folder import CopyFolder

HERE = Path(__file__).parent
ROOT = HERE.parents[4]
NAMES = ("a", "b", "c", "d")
SIZE = 1000


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as found:
        found.files |= {name: name.encode() * SIZE for name in NAMES}
        yield found


def copies(where: Path) -> str:
    return "".join(sorted(path.name for path in where.glob("*/[abcd]")))


def end_of_process(where: Path) -> None:
    """What the kernel does with the lease of a process that ends."""
    folder = copying._folder(where)
    if folder._lease is not None:
        folder._lease.close()
    copying._folder.cache_clear()


@contextlib.contextmanager
def other_process(where: Path, budget: int, *addresses: str) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        str(HERE / "copying_process.py"),
        str(where),
        str(budget),
        *addresses,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "copied\n"
            yield process
        finally:
            process.kill()


def test_copies_that_were_not_used_for_longest_are_removed(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c", "a"):
        local_copies(site.url(name), tmp_path)
        end_of_process(tmp_path)
        time.sleep(0.02)  # the times of files are in steps of up to 10 ms
    capsys.readouterr()
    local_copies(site.url("d"), tmp_path, budget_bytes=3 * SIZE)
    assert copies(tmp_path) == "acd"
    assert f"of {site.url('b')}" in capsys.readouterr().err
    assert site.requests["GET a"] == 1


def test_files_that_do_not_fit_together_are_refused_before_one_is_copied(
    site: Site, tmp_path: Path
) -> None:
    addresses = [site.url(name) for name in NAMES]
    message = r"`budget_bytes` must leave 4,000 bytes for the remote files that are in use .*3,999"
    with pytest.raises(ValueError, match=message):
        local_copies(addresses, tmp_path, budget_bytes=3999)
    assert copies(tmp_path) == ""
    local_copies(addresses, tmp_path, budget_bytes=4 * SIZE)
    assert copies(tmp_path) == "abcd"


def test_a_copy_in_use_is_not_removed_until_its_process_is_killed(
    site: Site, tmp_path: Path
) -> None:
    with other_process(tmp_path, 10**6, site.url("a"), site.url("b")) as process:
        with pytest.raises(ValueError, match="`budget_bytes` must leave"):
            local_copies(site.url("c"), tmp_path, budget_bytes=2 * SIZE)
        assert copies(tmp_path) == "ab"
        process.kill()
        process.wait()
        local_copies(site.url("c"), tmp_path, budget_bytes=2 * SIZE)
    assert len(copies(tmp_path)) == 2


def test_two_processes_copy_a_file_once(site: Site, tmp_path: Path) -> None:
    site.faults["a"] = ("slow", 1)
    with other_process(tmp_path, 10**6, site.url("a")):
        local_copies(site.url("a"), tmp_path)
    assert site.requests["GET a"] == 1


def test_what_is_not_an_untouched_copy_is_never_removed(site: Site, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        local_copies(site.url(name), tmp_path)
    end_of_process(tmp_path)
    (a,), (b,), (c,) = (list(tmp_path.glob(f"*/{name}")) for name in ("a", "b", "c"))
    (a.parent / "notes.txt").write_text("mine")  # beside a copy
    b.write_bytes(b"x" * SIZE)  # edited
    (tmp_path / "0123456789abcdef0123456789abcdef").mkdir()
    (tmp_path / "data.bin").write_bytes(b"mine")
    local_copies(site.url("d"), tmp_path, budget_bytes=SIZE)
    assert not c.exists()
    assert (a.parent / "notes.txt").read_text() == "mine"
    assert a.exists()
    assert b.read_bytes() == b"x" * SIZE
    assert (tmp_path / "data.bin").exists()
    # An edited copy is not used either; it is kept under another name.
    (again,) = local_copies(site.url("b"), tmp_path)
    assert Path(again).read_bytes() == b"b" * SIZE
    assert [path.read_bytes() for path in tmp_path.glob("*.changed-*/b")] == [b"x" * SIZE]


def test_a_truncated_copy_is_copied_again(site: Site, tmp_path: Path) -> None:
    (path,) = local_copies(site.url("a"), tmp_path)
    os.truncate(path, 10)
    (again,) = local_copies(site.url("a"), tmp_path)
    assert Path(again).read_bytes() == b"a" * SIZE


def test_parts_of_a_killed_process_are_not_used_and_removed(site: Site, tmp_path: Path) -> None:
    file = protocols.described(site.url("a"), Deadline(9))
    partial = CopyFolder(tmp_path).new_partial(file)
    (partial / "a").write_bytes(b"a" * SIZE)
    (path,) = local_copies(site.url("a"), tmp_path)
    assert Path(path).read_bytes() == b"a" * SIZE
    assert not partial.exists()


def test_a_full_disk_is_named_at_once_and_nothing_is_left(site: Site, tmp_path: Path) -> None:
    site.files["a"] = b"a" * 100_000
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"Could not download .*File too large"):
            local_copies(site.url("a"), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert copies(tmp_path) == ""
    assert list(tmp_path.glob(".*.partial")) == []
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OSError, match=r"Remote files could not be copied to .*: Not a directory"):
        local_copies(site.url("a"), file)
