"""A folder that cannot contain checkpoints is refused before training begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tfscale.callbacks import Checkpoint
from tfscale.checkpoints import CheckpointDirectory


@pytest.mark.parametrize(
    ("directory", "message"),
    [
        (None, r"must be a string or a path object. Received: directory=None"),
        (3, r"must be a string or a path object. Received: directory=3"),
        (b"runs", r"must be a string or a path object. Received: directory=b'runs'"),
        ("", r"must be the path of a folder. Received: directory=''"),
        (" ", r"must be the path of a folder. Received: directory=' '"),
        ("runs/\0a", r"must be a path without NUL"),
        ("gs://", r"must be a path in a bucket.*'gs://bucket/runs/a'"),
        ("gs:///runs/a", r"must be a path in a bucket"),
        ("gs:/bucket/a", r"must be a local path, or have '://'.*two slashes"),
        (Path("gs://bucket/a"), r"must be a local path, or have '://'.*pathlib.Path removes one"),
        ("s3:bucket/a", r"must be a local path, or have '://'"),
        ("s3://bucket/a", r"with a scheme of \[.*'gs'.*\].*tensorflow-io adds s3"),
        ("sftp://host/a", r"with a scheme of \[.*'gs'"),
        ("file:///runs/a", r"without a scheme. Received.*Pass '/runs/a'"),
        ("~no-such-user/a", r"below an existing home folder"),
    ],
    ids=repr,
)
def test_a_path_that_is_none_is_refused_when_the_callback_is_made(
    directory: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"`directory` .*{message}"):
        Checkpoint(directory)


def test_a_relative_path_stays_where_it_was_when_the_current_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint, directory = Checkpoint("runs/a"), CheckpointDirectory("runs/a")
    monkeypatch.chdir("/")
    assert checkpoint.directory.path == directory.path == str(tmp_path / "runs/a")
    assert os.fspath(directory.path) == directory.path


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Checkpoint("~/runs").directory.path == str(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    assert Checkpoint("./~").directory.path == str(tmp_path / "~")


def test_a_path_with_a_scheme_is_kept() -> None:
    assert Checkpoint("gs://bucket/runs/").directory.path == "gs://bucket/runs"
    assert Checkpoint("ram://run").directory.path == "ram://run"
