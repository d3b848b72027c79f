"""Jobs with data workers under `tfscale launch`: they are killed and stopped, and fail."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.programs import completed
from tests.workers.job import DEADLINE_SECONDS, launch, left

pytestmark = pytest.mark.thorough


def run(
    folder: Path, *arguments: object, data_workers: int = 2, workers: int = 1, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a job of `tests.workers.data_workers` to its end."""
    case, *others = map(str, arguments)
    flags = f"--num_data_workers={data_workers} --max_restarts=0 --early_seconds=0"
    command = launch("data_workers", case, str(folder), *others, num_workers=workers, flags=flags)
    return completed(*command, timeout=DEADLINE_SECONDS, **variables)


def test_batches_are_the_same_while_data_workers_are_killed_at_random_moments(
    tmp_path: Path,
) -> None:
    kinds = ["SIGKILL"] * 6
    ended = run(tmp_path, "killed", 2500, *kinds)
    assert ended.returncode == 0, ended.stdout
    assert left(tmp_path, "killed", 1)[0]["left"] == 0
    assert ended.stdout.count("SIGKILL to data worker") == 6
    assert "killed by SIGKILL after" in ended.stdout + ended.stderr


def test_batches_are_the_same_after_a_data_worker_was_stopped(tmp_path: Path) -> None:
    ended = run(tmp_path, "killed", 1500, "SIGSTOP")
    assert ended.returncode == 0, ended.stdout
    (found,) = left(tmp_path, "killed", 1)
    assert found["left"] == 0
    assert found["longest"] < 30  # seconds without a batch


def test_a_preempted_job_of_two_workers_ends_with_the_weights_of_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    weights = []
    for data_workers, preempted_at in ((0, 999), (2, 17)):
        folder = tmp_path / str(data_workers)
        folder.mkdir()
        ended = run(folder, "trained", 4, preempted_at, data_workers=data_workers, workers=2)
        assert ended.returncode == 0, ended.stdout
        for found in left(folder, "trained"):
            assert found["resumed_at"] == (None if data_workers == 0 else [2, 4])
            weights.append((found["weights"], found["loss"]))
    assert all(other == weights[0] for other in weights)


def test_a_data_worker_with_another_seed_is_refused(tmp_path: Path) -> None:
    ended = run(tmp_path, "killed", 10, data_workers=1, TEST_SEED_OF_DATA_WORKERS="7")
    assert ended.returncode == 1
    assert "`seed` of pipeline 0 is 1 here and 8 there, in data worker 0" in ended.stdout


def test_the_job_says_which_source_has_failed(tmp_path: Path) -> None:
    ended = run(tmp_path, "trained", 1, 999, data_workers=1, TEST_FAILING="1")
    assert ended.returncode == 1
    output = ended.stdout + ended.stderr
    assert "could not compute step" in output
    assert "OSError: a disk of the data worker has failed" in output
