"""The files of a cache: damage, full disks, and processes that are killed."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data.cache.filling_process import Texts
from tests.unit.tfscale.data.taking import taken
from tfscale.data import ReadSource, cached
from tfscale.data.cache import folder, stored_rows

HERE = Path(__file__).parent
ROOT = HERE.parents[4]
COUNT = 3000


def texts(where: Path, **options: Any) -> Any:
    return cached(ReadSource(Texts(COUNT)), where, **options)


def content(source: Any) -> tuple[list[int], list[bytes]]:
    batch = taken(source, list(range(COUNT)))
    return batch["n"].numpy().tolist(), batch["text"].numpy().tolist()


DAMAGED = "is damaged: its checksum differs. Check the disk and delete this folder"
WANTED = (list(range(COUNT)), [b"%d" % i * (i % 5) for i in range(COUNT)])


def only_folder(where: Path) -> Path:
    """The cache, which is all that is in the folder."""
    (found,) = where.iterdir()
    return found


@pytest.mark.parametrize("name", ["rows", "offsets", "checksums", "manifest.json"])
def test_a_flipped_bit_never_gives_wrong_examples(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts(tmp_path)
    path = only_folder(tmp_path) / name
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    caught = 0
    for position in [0, len(whole) - 1, *random.integers(0, len(whole), 4)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            found = content(texts(tmp_path))
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            caught += DAMAGED in str(error)
        else:
            # A damaged manifest makes the cache again.
            assert found == WANTED
            assert name == "manifest.json"
            assert "is damaged or incomplete; it is made again" in capsys.readouterr().err
        (only_folder(tmp_path) / name).write_bytes(whole)
    assert caught == (0 if name == "manifest.json" else 6)


def test_two_rows_that_changed_places_are_noticed(tmp_path: Path) -> None:
    kept = cached({"x": np.arange(8, dtype=np.int64)}, tmp_path)
    for name, size in (("rows", 8), ("checksums", 4)):
        path = only_folder(tmp_path) / name
        data = path.read_bytes()
        path.write_bytes(data[size : 2 * size] + data[:size] + data[2 * size :])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"Example 1 of the cache .* {DAMAGED}"
    ):
        taken(kept, [1])


@pytest.mark.parametrize("name", ["rows", "offsets", "checksums", "manifest.json"])
def test_a_truncated_or_missing_file_makes_the_cache_again(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts(tmp_path)
    path = only_folder(tmp_path) / name
    for is_missing in (False, True):
        if is_missing:
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size // 2)
        assert content(texts(tmp_path)) == WANTED
        assert f"{path.parent} is damaged or incomplete" in capsys.readouterr().err


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may be larger than 20 kB: what a full disk does, at another errno."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_files")
def test_a_file_that_cannot_grow_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"could not be written: File too large. Nothing of it is le"):
        texts(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a file system")
def test_a_full_disk_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("the system does not allow to mount a file system")
    try:
        with pytest.raises(ValueError, match=r"`where` must have about .* of free disk space for "):
            texts(tmp_path)
        monkeypatch.setattr("tfscale.data.cache.cached_source.free_disk", lambda path: 1 << 30)
        with pytest.raises(OSError, match=r"No space left on device. Nothing of it is left. Make"):
            texts(tmp_path)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_written_is_named_but_a_cache_in_it_is_read() -> None:
    with tempfile.TemporaryDirectory() as name:  # other users cannot read pytest's
        own, where = os.geteuid(), Path(name)
        where.chmod(0o555)
        with (
            as_nobody(own),
            pytest.raises(PermissionError, match=r"be written: Permission denied. N"),
        ):
            texts(where)
        where.chmod(0o755)
        texts(where)
        where.chmod(0o555)
        with as_nobody(own):
            assert content(texts(where)) == WANTED
        where.chmod(0o755)


@contextlib.contextmanager
def as_nobody(own: int) -> Iterator[None]:
    """Has no rights of root, if this process has them."""
    if own == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = stored_rows.FileSink.add

    def interrupted(sink: stored_rows.FileSink, rows: Any) -> None:
        add(sink, rows)
        if sink.size > 20_000:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(stored_rows.FileSink, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        texts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_filling_process_is_waited_for_and_when_it_is_killed_another_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, str(HERE / "filling_process.py"), str(tmp_path), str(COUNT), "2000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "filling\n"
        with pytest.raises(
            TimeoutError, match=rf"Waited \d+ s for the cache .*: process {process.pid}"
        ):
            texts(tmp_path, deadline_seconds=0)
        process.kill()
    assert len(list(tmp_path.iterdir())) == 2  # the claim and the part that it wrote
    monkeypatch.setattr(folder, "_SILENCE_SECONDS", 0.5)
    assert content(texts(tmp_path)) == WANTED
    only_folder(tmp_path)


@pytest.mark.thorough
def test_a_filling_process_that_is_killed_at_any_moment_leaves_no_wrong_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_SILENCE_SECONDS", 0.5)
    command = [sys.executable, str(HERE / "filling_process.py"), str(tmp_path), str(COUNT), "-1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    began = time.monotonic()
    subprocess.run(command, env=environment, check=True)
    spent = time.monotonic() - began
    random = np.random.default_rng(0)
    for kind in [signal.SIGKILL] * 20 + [signal.SIGINT] * 5:
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            # Importing takes the first part of the time.
            time.sleep(spent * random.uniform(0.6, 1.1))
            process.send_signal(kind)
        if kind == signal.SIGINT:
            assert not list(tmp_path.glob(".*"))
        assert content(texts(tmp_path)) == WANTED
        only_folder(tmp_path)
