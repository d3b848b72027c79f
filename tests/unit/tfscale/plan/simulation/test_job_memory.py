"""`tfscale plan --what=job --memory_per_device`: the memory of the job that would be chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.tfscale.plan.speed.test_predicting import MEASURED
from tests.unit.tfscale.plan.speed.test_speed_command import SOURCE
from tfscale.__main__ import main

pytestmark = [pytest.mark.own_process, pytest.mark.thorough]


@pytest.mark.parametrize(
    ("size", "status", "message"),
    [
        ("1kB", 1, "Nothing fits: the nearest, sharded_2 on 2 workers, needs "),
        ("1GiB", 0, "Fastest of 1: sharded_2 on 2 workers."),
    ],
)
def test_a_job_must_fit_into_the_memory_of_a_device(
    size: str,
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    MEASURED.write(tmp_path / "measured.json")
    monkeypatch.setenv("TFSCALE_JOBS_DIR", str(tmp_path / "jobs"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    flags = ["--measured=measured.json", "--strategies=sharded_2", "--workers=2"]
    flags += ["--examples=864000", "--repeats=2", f"--memory_per_device={size}"]
    assert main(["plan", "mine:build", "--what=job", *flags]) == status
    printed = capsys.readouterr()
    assert message in printed.out
    assert "planning the memory of sharded_2 on 2 workers" in printed.err
