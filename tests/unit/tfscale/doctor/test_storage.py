from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tfscale.doctor.storage import examine_folder, examine_locks, within


def test_a_folder_with_room_has_no_findings(tmp_path: Path) -> None:
    seen, findings = examine_folder(tmp_path)
    assert findings == []
    assert seen["free_bytes"] > 0
    assert examine_locks(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_a_problem_unless_it_is_the_current_one(
    tmp_path: Path,
) -> None:
    _, (finding,) = examine_folder(tmp_path / "none")
    assert finding.found.endswith("cannot be written: No such file or directory.")
    assert (finding.is_problem, finding.cure) == (True, "Create it, or correct its name.")
    _, (finding,) = examine_folder(tmp_path / "none", "current")
    assert not finding.is_problem


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _, (finding,) = examine_folder(tmp_path / "file")
    assert (finding.is_problem, finding.cure) == (True, "Name a folder.")


def test_a_call_that_does_not_end_is_left_behind_at_its_deadline() -> None:
    ended = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, ended.wait)
    ended.set()
    assert within(60.0, lambda: 7) == 7
    with pytest.raises(FileNotFoundError):
        within(60.0, Path("/no/such/file").read_text)
