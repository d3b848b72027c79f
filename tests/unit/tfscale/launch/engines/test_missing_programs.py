"""Where the program of an engine is missing, a dry run prints, and a submission names the cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfscale.__main__ import main

TPU = ("--option=tpu=a", "--option=zone=us-west4-a")
ENGINES = {
    "kubernetes": ("kubectl", "apply|create", "kubernetes-client", ("--option=image=digits:1",)),
    "mpi": ("mpiexec", "-hosts localhost:1 -n 1", "apt install mpich", ()),
    "ray": ("ray", "ray job submit", "pip install", ()),
    "slurm": ("sbatch", "#SBATCH --ntasks=1", "Debian: slurm-client", ()),
    "tpu_vm": ("gcloud", "tpu-vm ssh", "cloud.google.com", TPU),
}
"""The program, a part of what is printed, a part of the cure, and what the engine requires."""


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("TFSCALE_JOBS_DIR", str(tmp_path / "jobs"))
    return tmp_path / "jobs"


def arguments(engine: str, *flags: str) -> list[str]:
    return ["launch", f"--engine={engine}", "--num_workers=1", *ENGINES[engine][3], *flags]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_dry_run_prints_the_job_and_names_the_program_that_is_missing(
    nothing_installed: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    program, printed, cure, _ = ENGINES[engine]
    assert main([*arguments(engine, "--dry_run"), "--", "python", "t.py"]) == 0
    output, errors = capsys.readouterr()
    assert any(part in output for part in printed.split("|")), output
    assert f"tfscale launch: printed only; to submit it here: {program!r} is not on PATH" in errors
    assert cure in errors
    assert errors.count("\n") == 1
    assert not nothing_installed.exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_submission_ends_with_the_missing_program_and_the_cure(
    nothing_installed: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    program, _, cure, _ = ENGINES[engine]
    assert main([*arguments(engine), "--", "python", "t.py"]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert program in errors
    assert "is not on PATH" in errors
    assert cure in errors
    assert errors.count("\n") == 1
    assert not list(nothing_installed.glob("*"))  # nothing of the job is left
