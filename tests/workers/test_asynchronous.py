"""One worker and one parameter server, in separate processes, match single-device results."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs import run_program
from tests.workers.job import DEADLINE_SECONDS, Found, launch, left


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The chief's results; its worker is killed in the last training."""
    folder: Path = tmp_path_factory.mktemp("asynchronous")
    flags = "--num_ps=1 --max_restarts=1 --early_seconds=0"
    command = launch("asynchronous", str(folder), "one_worker", num_workers=1, flags=flags)
    printed = run_program(*command, timeout=2 * DEADLINE_SECONDS)
    assert "worker 0 failed: killed by SIGKILL" in printed
    return left(folder, "one_worker", 1)[0]


@pytest.mark.parametrize("model", ["sequential", "functional", "own_step"])
def test_one_worker_and_one_server_match_one_device(found: Found, model: str) -> None:
    compared = found[model]
    assert compared["weights"] < 1e-9 < 1e-3 < compared["moved"]
    assert compared["logs"] < 1e-9


def test_no_step_is_lost_with_a_killed_worker(found: Found) -> None:
    killed = found["killed"]
    # Its last step may have been applied before the restarted worker repeats it.
    assert killed["iterations"] in (60, 61)
    assert set(killed["moved"]) <= {60.0, 61.0}
    assert killed["batches"] in (60, 61)
