"""A chief that is killed in mid-epoch: the job starts again there, and no step counts twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.traces import end_all, marked_environment
from tests.programs import ROOT
from tests.workers.job import DEADLINE_SECONDS, left


@pytest.mark.thorough
def test_asynchronous_training_goes_on_from_a_checkpoint_of_mid_epoch(tmp_path: Path) -> None:
    launch = ["-m", "tfscale", "launch", "--num_workers=2", "--num_ps=1", "--max_restarts=2"]
    program = [sys.executable, "-m", "tests.workers.asynchronous_resumed", str(tmp_path)]
    try:
        ended = subprocess.run(
            [sys.executable, *launch, "--grace_seconds=1", "--early_seconds=0", "--", *program],
            cwd=ROOT,
            env=marked_environment(str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=5 * DEADLINE_SECONDS,
        )
    finally:
        end_all(str(tmp_path))
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert ended.stderr.count(". Restart ") == 1, ended.stderr
    (found,) = left(tmp_path, "resumed", 1)
    assert found["resumed_from"] == {"epoch": 2, "step": 13, "batches": 63}
    assert found["epochs"] == {"2": 25, "3": 25}
    assert found["iterations"] == 100
    assert found["moved"] == [100.0]
    assert found["draws"] == 100
