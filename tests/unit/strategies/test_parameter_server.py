"""Errors for clusters unfit for asynchronous training, and the end of tasks that serve."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import strategies
from strategies.keras_support.patches import ASSIGN_ADD, ASSIGN_SUB
from tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[3]
JOBS = {"chief": ("a:1",), "worker": ("b:1", "c:1"), "ps": ("d:1",)}


@pytest.mark.parametrize(
    ("missing", "name"), [("ps", "parameter server"), ("chief", "chief"), ("worker", "worker")]
)
def test_a_cluster_that_lacks_a_job_is_refused(missing: str, name: str) -> None:
    jobs = {job: addresses for job, addresses in JOBS.items() if job != missing}
    cluster = strategies.Cluster(jobs, next(iter(jobs)), 0)
    message = f"`cluster` must have at least one {name}, a task of the job '{missing}'.*--num_ps=1"
    with pytest.raises(ValueError, match=message):
        strategies.parameter_server_strategy(cluster)


def test_no_cluster_at_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=r"Received: cluster=None\. Start the program with"):
        strategies.parameter_server_strategy()


def test_an_evaluator_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Received: task_type='evaluator'"):
        strategies.parameter_server_strategy(strategies.Cluster(JOBS, "evaluator", 0))


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_an_impossible_deadline_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"`bring_up_seconds` must be positive"):
        strategies.parameter_server_strategy(
            strategies.Cluster(JOBS, "chief", 0), bring_up_seconds=seconds
        )


def test_counters_are_kept_by_code_that_keras_still_has() -> None:
    assert ASSIGN_ADD.is_recognised()
    assert ASSIGN_SUB.is_recognised()


def started(task: str, chief: str, seconds: float) -> subprocess.Popen[str]:
    """A chief or a parameter server; the worker's port is one where nothing ever listens.

    Args:
        task: "chief" or "ps".
        chief: The chief's address, which a server is to wait for.
        seconds: How long it waits.
    """
    address = f"127.0.0.1:{free_ports(1)[0]}"
    program = f"""
        import strategies
        jobs = {{"chief": [{chief!r}], "worker": ["127.0.0.1:1"], "ps": [{address!r}]}}
        cluster = strategies.Cluster(jobs, {task!r}, 0)
        strategies.parameter_server_strategy(cluster, bring_up_seconds={seconds})
        print("went on")
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output_of(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=400)[0]
    finally:
        process.kill()


@pytest.fixture(scope="module")
def ended() -> dict[str, Any]:
    """Two servers, whose chiefs start and end, or never start; and a chief."""
    with socket.create_server(("127.0.0.1", 0)) as chief, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        own = f"127.0.0.1:{unused.getsockname()[1]}"
        orphan = started("ps", f"127.0.0.1:{chief.getsockname()[1]}", seconds=300)
        waiting = started("ps", own, seconds=1)
        chief.settimeout(240)
        chief.accept()  # it has seen the chief
    single = started("chief", own, seconds=1)
    left = time.monotonic()
    output = output_of(orphan)
    seconds = time.monotonic() - left
    return {
        "orphan": (orphan.returncode, output, seconds),
        "waiting": (output_of(waiting), waiting.returncode),
        "chief": (output_of(single), single.returncode),
    }


def test_a_server_ends_well_when_its_chief_is_gone(ended: dict[str, Any]) -> None:
    status, output, seconds = ended["orphan"]
    assert "ps 0 ends: the chief at 127.0.0.1:" in output
    assert "went on" not in output
    assert status == 0
    assert seconds < 200


def test_a_server_whose_chief_never_starts_gives_up(ended: dict[str, Any]) -> None:
    output, status = ended["waiting"]
    assert "ps 0 waited 1 s for the chief at" in output
    assert status == 1


def test_a_chief_whose_worker_never_starts_gives_up_and_names_it(ended: dict[str, Any]) -> None:
    output, status = ended["chief"]
    assert "chief 0 waited 1 s for the cluster to start and gives up" in output
    assert re.search(r"Missing: .*worker 0 \(127\.0\.0\.1:1: Connection refused\)", output)
    assert "went on" not in output
    assert status == -signal.SIGKILL  # TensorFlow waits where nothing else ends it
