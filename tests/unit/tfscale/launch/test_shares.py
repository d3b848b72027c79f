"""GPUs and CPUs of each worker."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from tfscale.launch import launch_local_workers
from tfscale.launch.shares import Shares, visible_gpus


@pytest.mark.parametrize(
    ("chosen", "gpus"),
    [("", []), ("-1", []), ("0,1", ["0", "1"]), ("2, GPU-8a", ["2", "GPU-8a"]), ("1,-1,2", ["1"])],
)
def test_gpus_are_those_that_the_process_sees(chosen: str, gpus: list[str]) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": chosen}) == gpus


def test_without_a_choice_gpus_are_counted_from_the_drivers_files(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert visible_gpus({}, tmp_path) == ["0", "1"]


def test_each_worker_sees_its_own_gpus_and_others_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7")
    shares = Shares.of_host(2, 2, None)
    assert shares.environment("worker", 1) == {"CUDA_VISIBLE_DEVICES": "6,7"}
    assert shares.environment("ps", 0) == {"CUDA_VISIBLE_DEVICES": ""}
    assert Shares.of_host(2, 0, None).environment("worker", 0) == {"CUDA_VISIBLE_DEVICES": ""}
    with pytest.raises(ValueError, match=r"`gpus_per_worker` must be at most 1: .* 4 GPUs for 3"):
        Shares.of_host(3, 2, None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux assigns CPUs")
def test_each_worker_runs_on_its_own_cpus() -> None:
    usable = sorted(os.sched_getaffinity(0))
    code = "import os; print(sorted(os.sched_getaffinity(0)), 'TFSCALE_CPUS' in os.environ)"
    command = [sys.executable, "-S", "-c", code]
    count = min(2, len(usable))
    output = io.BytesIO()
    outcome = launch_local_workers(command, count, cpus_per_worker=1, output=output)
    assert outcome.status == 0
    lines = sorted(output.getvalue().decode().splitlines())
    assert lines == [f"[worker {i}] [{usable[i]}] False" for i in range(count)]
    with pytest.raises(ValueError, match=r"`cpus_per_worker` must be at most .* Start fewer"):
        launch_local_workers(command, 1, cpus_per_worker=len(usable) + 1)


def test_a_job_ends_at_its_time_limit(capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
    outcome = launch_local_workers(command, 2, time_limit=1.5, output=io.BytesIO())
    assert outcome.status == 128 + 15
    assert "the time limit of 1.5 s is over; the workers get SIGTERM." in capfd.readouterr().err
    assert str(outcome).startswith("the time limit of 1.5 s is over; the whole job was ended")
    with pytest.raises(ValueError, match="`time_limit` must be positive and finite"):
        launch_local_workers(command, 1, time_limit=0)
