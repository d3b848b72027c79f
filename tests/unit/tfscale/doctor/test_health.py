from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doctor_faults import Doctor, reports
from tests.programs import completed
from tfscale.doctor.health import ALL_REDUCE, DISK_READ, DISK_WRITE, MATMUL, disk_mb_per_s
from tfscale.doctor.health_findings import Thresholds, compare_workers, examine_health

FIGURES = {MATMUL: 50.0, DISK_WRITE: 100.0, DISK_READ: 900.0, ALL_REDUCE: 4.0}


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        (Thresholds(), []),
        (Thresholds(50.0, 100.0, 4.0), []),
        (
            Thresholds(min_matmul_gflops=60.0),
            ["GPU:1: matmul at 50 GFLOP/s; --min_matmul_gflops=6"],
        ),
        (
            Thresholds(min_disk_mb_per_s=1000.0),
            ["writing to disk at 100 MB/s; --min_disk_mb_per_s", "reading from disk at 900 MB/s;"],
        ),
        (Thresholds(max_all_reduce_ms=3.0), ["An all-reduce of 1 MiB takes 4 ms; --max_all_red"]),
    ],
)
def test_figures_are_compared_with_what_a_job_needs(
    thresholds: Thresholds, words: list[str]
) -> None:
    findings = examine_health(FIGURES, thresholds, {"GPU:0": 70.0, "GPU:1": 50.0})
    assert [each.found[: len(w)] for each, w in zip(findings, words, strict=True)] == words


@pytest.mark.parametrize(
    ("speeds", "slow"),
    [
        pytest.param([100.0, 90.0, 49.0], [], id="above half of 90"),
        pytest.param([100.0, 90.0, 44.0], ["worker 2"], id="below half of 90"),
        pytest.param([100.0, 34.0], [], id="above half of 67"),
        pytest.param([100.0, 33.0], ["worker 1"], id="below half of 66.5"),
        pytest.param([1.0], [], id="alone"),
        pytest.param([100.0, "fast", float("nan"), None, 100.0], [], id="what is no number"),
    ],
)
def test_a_worker_below_half_of_the_median_is_named(speeds: list[Any], slow: list[str]) -> None:
    figures = {f"worker {index}": {MATMUL: speed} for index, speed in enumerate(speeds)}
    machines = {name: name for name in figures}
    findings = compare_workers({**figures, "worker 9": None}, "worker 0", machines)
    assert [each.found.partition(" is slow")[0] for each in findings] == slow


@pytest.mark.parametrize(
    ("machines", "slow"), [("aab", []), ("abc", ["worker 1"]), ("abb", ["worker 1"])]
)
def test_tasks_of_one_machine_share_its_disk_and_are_not_compared(
    machines: str, slow: list[str]
) -> None:
    figures = {f"worker {i}": {DISK_WRITE: speed} for i, speed in enumerate((477.0, 100.0, 470.0))}
    of_tasks = dict(zip(figures, machines, strict=True))
    findings = compare_workers(figures, "worker 0", of_tasks)
    assert [each.found.partition(" is slow")[0] for each in findings] == slow


def test_a_disk_is_written_and_read(tmp_path: Path) -> None:
    write, read = disk_mb_per_s(tmp_path)
    assert write > 0
    assert read > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_thresholds_that_no_host_meets_are_problems(tmp_path: Path) -> None:
    flags = ("--only=host", "--health_check", f"--dirs={tmp_path}", "--min_matmul_gflops=1e9")
    ((status, report),) = reports([Doctor((*flags, "--min_disk_mb_per_s=1e9"))])
    assert status == 1
    assert ["matmul at" in problem for problem in report["problems"]] == [True, False, False]
    assert report["health"]["folder"] == str(tmp_path)
    assert set(report["health"]["figures"]) == {MATMUL, DISK_WRITE, DISK_READ, "memory_gb_per_s"}


@pytest.mark.thorough
def test_a_broken_cluster_is_a_problem_of_the_check_too(tmp_path: Path) -> None:
    flags = ("--only=host", "--health_check", f"--dirs={tmp_path}")
    ((status, report),) = reports([Doctor(flags, variables={"TF_CONFIG": "{"})])
    (problem,) = report["problems"]
    assert status == 1
    assert problem.startswith("`TF_CONFIG` must be JSON")
    assert report["health"]["figures"][MATMUL] > 0


@pytest.mark.thorough
def test_workers_time_an_all_reduce_together(tmp_path: Path) -> None:
    flags = ["--health_check", f"--dirs={tmp_path}", "--max_all_reduce_ms=1e-6"]
    doctor = [sys.executable, "-m", "tfscale", "doctor", "--only=host", "--json", *flags]
    done = completed(
        "-m", "tfscale", "launch", "--num_workers=2", f"--log_dir={tmp_path}/logs", "--", *doctor,
        timeout=400,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    for index in range(2):
        text = (tmp_path / "logs" / f"worker-{index}.attempt-0.log").read_text()
        report = json.loads(text[text.index("\n{\n") if not text.startswith("{") else 0 :])
        (problem,) = [each for each in report["problems"] if "all-reduce" in each]
        assert "--max_all_reduce_ms=1e-06" in problem
        assert set(report["health"]["tasks"]) == {"worker 0", "worker 1"}
        assert all(found[MATMUL] > 0 for found in report["health"]["tasks"].values())
        assert [DISK_WRITE in each for each in report["health"]["tasks"].values()] == [True, False]
