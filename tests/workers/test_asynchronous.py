"""One worker and one parameter server, in processes of their own: the numbers of one device."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.programs import completed
from tests.workers.job import DEADLINE_SECONDS, Found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the chief found; its worker is killed on the way."""
    folder: Path = tmp_path_factory.mktemp("asynchronous")
    launch = ["-m", "tfscale", "launch", "--num_workers=1", "--num_ps=1", "--max_restarts=1"]
    program = [sys.executable, "-m", "tests.workers.asynchronous", str(folder), "alone"]
    launch += ["--grace_seconds=1", "--early_seconds=0", "--"]
    ended = completed(*launch, *program, timeout=3 * DEADLINE_SECONDS)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert "worker 0 failed: killed by SIGKILL" in ended.stderr
    result: Found = json.loads((folder / "alone-0.json").read_text("utf-8"))
    return result


@pytest.mark.parametrize("model", ["sequential", "functional", "own_step"])
def test_one_worker_and_one_server_train_as_one_device_does(found: Found, model: str) -> None:
    compared = found[model]
    assert compared["weights"] < 1e-9 < 1e-3 < compared["moved"]
    assert compared["logs"] < 1e-9


def test_a_killed_worker_costs_no_step(found: Found) -> None:
    killed = found["killed"]
    # What it had applied of its last step is applied again by the one that takes its place.
    assert killed["iterations"] in (60, 61)
    assert set(killed["moved"]) <= {60.0, 61.0}
    assert killed["batches"] in (60, 61)
