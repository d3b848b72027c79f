from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.programs import own_environment
from tfscale.files.output_files import open_log, require_writable, whole_files, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_by_all_of_the_new_one(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text("what stood there, and is longer")
    reader = page.open()
    write_whole(page, "nëw\udcff")
    assert page.read_bytes() == b"n\xc3\xabw\\udcff"
    assert reader.read() == "what stood there, and is longer"  # who reads sees one or the other
    assert names(tmp_path) == ["page"]


# One process, since the mask is one's own for all threads.
UMASK = """
import os, sys
from tfscale.files.output_files import open_log, write_whole
os.umask(0o027)
write_whole(sys.argv[1] + "/page", "")
open_log(sys.argv[1] + "/log").close()
open(sys.argv[1] + "/plain", "w").close()
"""


def test_permissions_are_those_of_any_new_file_or_of_the_one_before(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", UMASK, str(tmp_path)], env=own_environment(), check=True, timeout=60
    )
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"page": 0o640, "log": 0o640, "plain": 0o640}
    (tmp_path / "page").chmod(0o600)
    write_whole(tmp_path / "page", "private")
    assert stat.S_IMODE((tmp_path / "page").stat().st_mode) == 0o600


@pytest.mark.parametrize("write", [lambda path: write_whole(path, "new"), open_log])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("link", "link to .*target; name the target, or remove the link"),
        ("dangling", "link to .*nothing; name the target, or remove the link"),
        ("folder", "a folder, not a file"),
        ("fifo", "a FIFO, not a file"),
        ("socket", "a socket, not a file"),
    ],
)
def test_what_is_no_file_is_refused_at_once_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, kind: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    Path("target").write_text("mine")
    Path("link").symlink_to(tmp_path / "target")
    Path("dangling").symlink_to(tmp_path / "nothing")
    Path("folder").mkdir()
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        before = {path: path.lstat() for path in tmp_path.iterdir()}
        with pytest.raises(OSError, match=words):
            write(kind)
    assert {path: path.lstat() for path in tmp_path.iterdir()} == before


def test_a_block_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    block = next((path for path in Path("/dev").iterdir() if path.is_block_device()), None)
    if block is None:
        pytest.skip("this host shows no block device")
    with pytest.raises(OSError, match="it is a block device, not a file"):
        require_writable(block)


def test_a_character_device_is_written_into_and_stays_one() -> None:
    before = Path("/dev/null").lstat().st_ino
    write_whole("/dev/null", "gone")
    require_writable("/dev/null")
    assert Path("/dev/null").lstat().st_ino == before
    with pytest.raises(OSError, match="/dev/full could not be written: No space left on device"):
        write_whole("/dev/full", "no room")


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_an_open_descriptor_is_written_to(name: str) -> None:
    reading, writing = os.pipe()
    try:
        write_whole(name.format(writing), "page")
        assert os.read(reading, 99) == b"page"
    finally:
        os.close(reading)
        os.close(writing)


def test_temporary_names_are_not_guessed_and_links_at_them_not_followed(tmp_path: Path) -> None:
    seen = set()
    for _ in range(20):
        with whole_files(tmp_path / "page"):
            (temporary,) = [name for name in names(tmp_path) if name != "page"]
            seen.add(temporary)
            assert stat.S_ISREG((tmp_path / temporary).lstat().st_mode)
    assert len(seen) == 20
    assert all(name.startswith(".") and str(os.getpid()) not in name for name in seen)


def test_no_other_file_is_ever_opened_in_the_place_of_the_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".00.partial").symlink_to(tmp_path / "mine")
    monkeypatch.setattr("secrets.token_hex", lambda count: "00")  # a lucky guess
    with pytest.raises(OSError, match="page could not be written: File exists"):
        write_whole(tmp_path / "page", "new")
    assert (tmp_path / "mine").read_text() == "mine"
    assert names(tmp_path) == [".00.partial", "mine"]


def test_what_appears_while_a_file_is_written_is_not_replaced(tmp_path: Path) -> None:
    def write() -> None:
        with whole_files(tmp_path / "page"):
            (tmp_path / "page").symlink_to(tmp_path / "mine")

    with pytest.raises(OSError, match="it is a link to"):
        write()
    assert names(tmp_path) == ["page"]
    assert (tmp_path / "page").is_symlink()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("mine"), OSError(28, "full")])
def test_an_error_leaves_all_files_as_they_were(tmp_path: Path, error: Any) -> None:
    (tmp_path / "a").write_text("old")

    def write() -> None:
        with whole_files(tmp_path / "a", tmp_path / "b") as (a, b):
            a.write(b"new")
            b.write(b"new")
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        write()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_file_that_cannot_be_opened_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No such file") as raised,
        whole_files(tmp_path / "a", tmp_path / "no" / "b"),
    ):
        pass
    assert raised.value.errno == errno.ENOENT
    assert names(tmp_path) == []


def test_threads_that_write_one_file_each_write_all_of_it(tmp_path: Path) -> None:
    texts = [str(number) * 100_000 for number in range(8)]
    threads = [
        threading.Thread(target=write_whole, args=(tmp_path / "page", text)) for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (tmp_path / "page").read_text() in texts
    assert names(tmp_path) == ["page"]


def test_looking_whether_a_file_can_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("old")
    before = (tmp_path / "page").stat()
    require_writable(tmp_path / "page")
    require_writable(tmp_path / "new")
    after = (tmp_path / "page").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert names(tmp_path) == ["page"]
    with pytest.raises(OSError, match="No such file or directory"):
        require_writable(tmp_path / "no" / "page")


def test_a_log_is_added_to(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        with open_log(tmp_path / "log") as log:
            log.write(text)
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_other_file_systems_get_whole_files_too() -> None:
    import tensorflow as tf

    def write() -> None:
        with whole_files("ram://whole/a", "ram://whole/b") as (a, b):
            a.write(b"new")
            b.write(b"new")
            raise ValueError("mine")

    tf.io.gfile.makedirs("ram://whole/folder")
    write_whole("ram://whole/a", "old")
    require_writable("ram://whole/a")
    with pytest.raises(ValueError, match="mine"):
        write()
    with pytest.raises(OSError, match="ram://whole/folder could not be written: it is a folder"):
        write_whole("ram://whole/folder", "")
    with pytest.raises(OSError, match=r"nosuch://a could not be written: .*not implemented"):
        write_whole("nosuch://a", "")
    assert sorted(tf.io.gfile.listdir("ram://whole")) == ["a", "folder"]
    assert tf.io.gfile.GFile("ram://whole/a").read() == "old"


def test_a_local_path_in_the_form_of_a_url_is_a_local_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="it is a link to"):
        write_whole(f"file://{tmp_path}/link", "")
    write_whole(f"file://{tmp_path}/page", "new")
    assert (tmp_path / "page").read_text() == "new"
