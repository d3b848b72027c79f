"""The chief is killed in mid-epoch: the job resumes there, and no step counts twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.traces import end_all, marked
from tests.programs import run_program
from tests.workers.job import DEADLINE_SECONDS, launch, left


@pytest.mark.thorough
def test_asynchronous_training_resumes_from_a_checkpoint_of_mid_epoch(tmp_path: Path) -> None:
    flags = "--num_ps=1 --max_restarts=2 --early_seconds=0"
    command = launch("asynchronous_resumed", str(tmp_path), flags=flags)
    try:
        printed = run_program(*command, timeout=3 * DEADLINE_SECONDS, **marked(str(tmp_path)))
    finally:
        end_all(str(tmp_path))
    assert printed.count(". Restart ") == 1, printed
    (found,) = left(tmp_path, "resumed", 1)
    assert found["resumed_from"] == {"epoch": 2, "step": 13, "batches": 63}
    assert found["epochs"] == {"2": 25, "3": 25}
    assert found["iterations"] == 100
    assert found["moved"] == [100.0]
    assert found["draws"] == 100
