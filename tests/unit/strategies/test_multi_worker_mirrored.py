"""Several workers: errors before anything starts, and a cluster that never starts.

Tests of whole runs compare several workers with one device.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import strategies
from tests.ports import free_ports
from tests.programs import forked

ROOT = Path(strategies.__file__).resolve().parents[1]
PAIR = strategies.Cluster({"worker": ("localhost:2", "localhost:3")}, "worker", 0)
START = "import strategies; strategies.multi_worker_mirrored_strategy(bring_up_seconds={})"


@pytest.fixture(autouse=True)
def _no_cluster_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.mark.parametrize("all_reduce", ["hierarchical_copy", "RING", ""])
def test_an_unknown_all_reduce_is_refused_with_the_known_ones(all_reduce: str) -> None:
    message = (
        f"`all_reduce` must be one of auto, ring, nccl, mpi. Received: all_reduce='{all_reduce}'"
    )
    with pytest.raises(ValueError, match=message):
        strategies.multi_worker_mirrored_strategy(PAIR, all_reduce=all_reduce)


@pytest.mark.parametrize("seconds", [0, -1.0])
def test_a_deadline_that_is_not_positive_is_refused(seconds: float) -> None:
    message = (
        f"`bring_up_seconds` must be positive and finite. Received: bring_up_seconds={seconds}"
    )
    with pytest.raises(ValueError, match=message):
        strategies.multi_worker_mirrored_strategy(PAIR, bring_up_seconds=seconds)


def test_no_cluster_is_refused_with_the_launcher_as_cure() -> None:
    with pytest.raises(ValueError, match=r"`cluster` must be given.*tfscale launch --num_workers"):
        strategies.multi_worker_mirrored_strategy()


@pytest.mark.parametrize("task_type", ["ps", "evaluator"])
def test_a_task_that_does_not_train_is_refused(task_type: str) -> None:
    jobs = {"worker": ("a:1", "b:1"), task_type: ("c:1",)}
    cluster = strategies.Cluster(jobs, task_type, 0)
    message = f"`cluster` must place this task among the workers. Received: task_type='{task_type}'"
    with pytest.raises(ValueError, match=message):
        strategies.multi_worker_mirrored_strategy(cluster)


def test_nccl_is_refused_without_gpus() -> None:
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this host has a GPU")
    with pytest.raises(ValueError, match="`all_reduce` must not be 'nccl' without GPUs"):
        strategies.multi_worker_mirrored_strategy(PAIR, all_reduce="nccl")


def free_addresses() -> list[str]:
    """Two addresses of this host where nothing listens."""
    return [f"localhost:{port}" for port in free_ports(2)]


def lone_worker(addresses: list[str], task_index: int) -> subprocess.Popen[str]:
    task = {"type": "worker", "index": task_index}
    tf_config = json.dumps({"cluster": {"worker": addresses}, "task": task})
    # The import of TensorFlow is not part of the deadline, so it is timed separately.
    code = f"import tensorflow, time; print(time.time(), flush=True); {START.format(3)}"
    return subprocess.Popen(
        [sys.executable, *forked("-c", code)],
        cwd=ROOT,
        env={**os.environ, "TF_CONFIG": tf_config, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_peer_that_never_starts_ends_the_process_and_is_named() -> None:
    """Worker 0 waits for the others to join, worker 1 for worker 0: two places to hang in."""
    clusters = [free_addresses(), free_addresses()]
    workers = [lone_worker(addresses, index) for index, addresses in enumerate(clusters)]
    try:
        results = [worker.communicate(timeout=240) for worker in workers]
        ended = time.time()
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    for index, (output, errors) in enumerate(results):
        peer = 1 - index
        address = clusters[index][peer]
        assert workers[index].returncode == -signal.SIGKILL, errors
        expected = rf"worker {index} waited 3 s .*Missing: worker {peer} \({address}: "
        assert re.search(expected, errors)
        assert ended - float(output) < 200  # by default it waits 300 s
