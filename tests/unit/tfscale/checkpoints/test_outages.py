"""A failing storage is reported, and not mistaken for an empty folder or a damaged checkpoint."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.dead_drive import dead_drive, dead_drive_missing
from tests.object_store import object_store, object_store_missing
from tests.programs import ROOT, own_environment
from tfscale.checkpoints import CheckpointDirectory, Content, Position, storage_errors
from tfscale.checkpoints.storage import RemoteStorage
from tfscale.checkpoints.tensors import Values

needs_mounts = pytest.mark.skipif(bool(dead_drive_missing()), reason=dead_drive_missing())


def saved(folder: Path, *batches: int, keep: int | None = None) -> CheckpointDirectory:
    directory = CheckpointDirectory(folder)
    for number in batches:
        weights = {"w": Values(np.full([3], float(number)))}
        directory.save(Content(Position(0, number, number), {}, weights, {}), keep)
    return directory


def step(folder: Path, number: int) -> Path:
    return folder / f"step-{number:012d}"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_errors, "PAUSES_SECONDS", (0.01, 0.01))


@needs_mounts
@pytest.mark.parametrize(
    "part", ["", "step-000000000004", "step-000000000004/tensors-00000.bin"], ids=str
)
@pytest.mark.parametrize("reader", ["ours", "TensorFlow's"])
@pytest.mark.usefixtures("soon")
def test_a_dead_drive_is_no_empty_folder_and_no_damage(
    tmp_path: Path, part: str, reader: str, capfd: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "run", 2, 4)
    directory = CheckpointDirectory(tmp_path / "run")
    if reader == "TensorFlow's":
        directory._storage = RemoteStorage(f"file://{tmp_path / 'run'}")
    with dead_drive(tmp_path / "run" / part):
        said = r"not connected.*run again: training resumes"
        with pytest.raises(OSError, match=said) as raised:
            directory.newest()
        assert str(tmp_path / "run") in str(raised.value)
    assert capfd.readouterr().err.count("Retrying in 0.01 s") == 2
    found = directory.newest()
    assert found is not None
    assert found.position.batches == 4
    saved(tmp_path / "run", 6, keep=3)
    assert directory.steps() == [2, 4, 6]


@needs_mounts
def test_a_short_outage_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(storage_errors, "PAUSES_SECONDS", (60.0, 60.0))
    monkeypatch.setattr(storage_errors, "DEADLINE_SECONDS", 200.0)
    directory = saved(tmp_path / "run", 2)
    back = contextlib.ExitStack()
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        back.close()  # the drive is back while it waits

    monkeypatch.setattr("time.sleep", sleep)
    back.enter_context(dead_drive(tmp_path / "run"))
    found = directory.newest()
    assert found is not None
    assert found.position.batches == 2
    assert waited == [60.0]
    assert "Retrying in 60 s, for at most 200 s" in capfd.readouterr().err


@needs_mounts
@pytest.mark.usefixtures("soon")
def test_a_storage_that_says_nothing_is_named_while_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = saved(tmp_path / "run", 2)
    wanted = f"waiting for the storage of {tmp_path / 'run'}: looking for checkpoints, for 0.05 s"
    said: list[str] = []
    server = os.open("/dev/fuse", os.O_RDWR)

    def announce(line: str) -> None:
        if line.startswith(wanted) and not said:
            os.close(server)  # ends the wait
            said.append(line)

    monkeypatch.setattr(storage_errors, "NOTICE_SECONDS", 0.05)
    monkeypatch.setattr(storage_errors, "announce", announce)
    with dead_drive(tmp_path / "run", server), pytest.raises(OSError, match="not connected"):
        directory.newest()
    assert said


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("error", ["ENOTDIR", "ELOOP", "ENAMETOOLONG", "a link to nowhere"])
def test_a_path_that_cannot_be_looked_at_is_no_empty_folder(tmp_path: Path, error: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "nowhere").symlink_to(tmp_path / "unmounted")
    path = {
        "ENOTDIR": tmp_path / "file" / "run",
        "ELOOP": tmp_path / "loop" / "run",
        "ENAMETOOLONG": tmp_path / ("n" * 300),
        "a link to nowhere": tmp_path / "nowhere",
    }[error]
    said = os.strerror(getattr(errno, error, errno.ENOENT))
    with pytest.raises(OSError, match=rf"failed while looking for checkpoints: .*{said}"):
        CheckpointDirectory(path).newest()


def test_a_link_to_a_folder_is_a_folder_for_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    found = saved(tmp_path / "run", 2, 4, keep=1).newest()
    assert found is not None
    assert found.position.batches == 4


@needs_mounts
def test_an_old_checkpoint_that_cannot_be_removed_is_named_and_training_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = saved(tmp_path, 2)
    with dead_drive(step(tmp_path, 2)):  # a mount point cannot be renamed
        saved(tmp_path, 4, keep=1)
        said = capfd.readouterr().err
        assert "step-000000000002" in said
        assert "could not be removed" in said
        assert "Training continues" in said
    assert directory.steps() == [2, 4]
    saved(tmp_path, 6, keep=1)
    assert directory.steps() == [6]


STORED = """
import sys
import numpy as np
import tensorflow as tf
from recipes.results import make_file_writable
from tfscale.checkpoints import CheckpointDirectory, Content, Position, storage_errors
from tfscale.checkpoints.tensors import Values
from tfscale.data.work_lock import WorkLock

storage_errors.PAUSES_SECONDS = (0.01,)
directory = CheckpointDirectory("gs://bucket/run")
for number in (2, 4):
    weights = {"w": Values(np.full([3], float(number)))}
    directory.save(Content(Position(0, number, number), {}, weights, {}))
calls = {
    "newest": lambda: directory.newest().position.batches,
    "gfile": lambda: (tf.io.gfile.isdir("gs://bucket/run"), tf.io.gfile.exists("/proc/1/x/y")),
    "claims": WorkLock("gs://bucket/data", silence_seconds=9).others,
    "output": lambda: make_file_writable("gs://bucket/data", flag="output"),
}
for line in sys.stdin:
    try:
        print(calls[line.strip()](), flush=True)
    except Exception as error:
        print(type(error).__name__, *str(error).split(), flush=True)
directory.save(Content(Position(0, 6, 6), {}, {}, {}), keep=3)
print(directory.steps())
"""
ALL = "."


@pytest.mark.skipif(bool(object_store_missing()), reason=object_store_missing())
def test_an_object_store_that_fails_at_any_question_loses_nothing(tmp_path: Path) -> None:
    at_once = {
        "GCS_RETRY_CONFIG_MAX_RETRIES": "0",
        "GCS_STAT_CACHE_MAX_AGE": "0",
        "GCS_READ_CACHE_MAX_SIZE_MB": "0",
        "NO_GCE_CHECK": "true",
    }
    with object_store(tmp_path) as store:
        asked = subprocess.Popen(
            [sys.executable, "-c", STORED],
            cwd=ROOT,
            env=own_environment(**at_once, **store.variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        watch = threading.Timer(600, asked.kill)
        watch.start()

        def said(call: str, failing: str | None) -> str:
            assert asked.stdin is not None
            assert asked.stdout is not None
            store.failing = failing
            asked.stdin.write(f"{call}\n")
            asked.stdin.flush()
            return asked.stdout.readline().strip()

        assert said("newest", None) == "4"
        listing = said("newest", "/o$")
        readings = [said("newest", part) for part in ("manifest.json", "bucket/run.*tensors")]
        gfile, claims, output = [said(call, ALL) for call in ("gfile", "claims", "output")]
        assert said("newest", None) == "4"
        rest, _ = asked.communicate()
        watch.cancel()
    place, cause = "gs://bucket/run", "All 0 retry attempts failed"
    assert listing.startswith(
        f"OSError The storage of {place} failed while looking for checkpoints: "
    )
    for reading in readings:
        assert reading.startswith(
            f"OSError The storage of {place}/step-000000000004 failed while reading a checkpoint: "
        )
    assert gfile == "(False, False)"  # TensorFlow's answers, which are not to be believed
    unknown = "OSError Cannot tell whether gs://bucket exists: "
    assert claims.startswith(f"{unknown}{cause}")
    assert output.startswith("ValueError `--output` must be a file that this process can write.")
    assert cause in output
    assert rest == "[2, 4, 6]\n"
