"""InputWait names the worker whose input is slow, on all workers alike; replicas wait together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workers.job import run_one_device, run_workers


@pytest.mark.thorough
def test_worker_with_the_slow_input_is_named_on_both(tmp_path: Path) -> None:
    found = run_workers("input_waited", tmp_path, "workers")
    assert found[0] == found[1]
    assert found[0]["worker"] == 1
    assert found[0]["is_input_bound"]
    assert 0.4 < found[0]["part"] < 0.9
    assert "on worker 1; at most" in found[0]["text"]
    assert found[0]["logs"] == pytest.approx([found[0]["part"]], abs=0.2)


@pytest.mark.thorough
def test_replicas_of_one_process_wait_for_one_input(tmp_path: Path) -> None:
    found = run_one_device("input_waited", tmp_path, "replicas")
    assert found["is_input_bound"]
    assert 0.3 < found["part"] < 0.9
