from __future__ import annotations

from pathlib import Path

import pytest

from tests.doctor_faults import Doctor, reports
from tfscale.doctor.storage import examine_folder, examine_locks


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


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
@pytest.mark.parametrize("folder", ["/proc", "/proc/runs"])
def test_a_folder_of_the_kernel_holds_no_files(folder: str) -> None:
    _, (finding,) = examine_folder(Path(folder))
    assert finding.found.startswith(f"{folder} cannot be written: it is of proc, in which")
    assert finding.cure == "Choose a folder on a disk."


def test_flags_given_twice_are_joined_and_a_missing_tmpdir_is_named(tmp_path: Path) -> None:
    one, two, missing = tmp_path / "one", tmp_path / "two", tmp_path / "missing"
    one.mkdir()
    two.mkdir()
    flags = ("--only=cluster", "--only=storage", f"--dirs={one}", f"--dirs={two}")
    ((status, report),) = reports([Doctor(flags, variables={"TMPDIR": str(missing)})])
    assert report["examinations"] == ["cluster", "storage"]
    assert [row["folder"] for row in report["storage"][:3]] == [str(one), str(two), str(missing)]
    (problem,) = report["problems"]
    assert status == 1
    assert problem.startswith(f"{missing} (temporary files) cannot be written: No such file")
