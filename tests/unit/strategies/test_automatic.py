"""The strategy that a process gets by default, and by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import strategies
from strategies.automatic import STRATEGIES
from tests.ports import free_ports

pytestmark = pytest.mark.own_process

ROOT = Path(strategies.__file__).resolve().parents[1]
REPORT = """
import strategies
strategy = strategies.auto_strategy()
task = getattr(strategy.cluster_resolver, "task_id", None)
print(type(strategy).__name__, strategy.num_replicas_in_sync, task, flush=True)
"""


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    message = "`name` must be one of auto, one_device, mirrored, .*Received: name='horovod'"
    with pytest.raises(ValueError, match=message):
        strategies.strategy_by_name("horovod")


@pytest.mark.parametrize(
    ("name", "arguments", "accepted"),
    [
        ("one_device", {"num_replicas": 2}, "device"),
        ("mirrored", {"device": "CPU:0"}, "num_replicas, devices, all_reduce"),
        ("auto", {"num_replicas": 2}, "nothing"),
    ],
)
def test_an_argument_of_another_strategy_is_refused_with_the_accepted_ones(
    name: str, arguments: dict[str, Any], accepted: str
) -> None:
    (argument,) = arguments
    message = f"`{argument}` must not be passed to the strategy '{name}'.*It takes: {accepted}"
    with pytest.raises(ValueError, match=message):
        strategies.strategy_by_name(name, **arguments)


def test_a_name_and_its_arguments_reach_the_factory() -> None:
    assert strategies.strategy_by_name("mirrored", num_replicas=2).num_replicas_in_sync == 2
    assert isinstance(
        strategies.strategy_by_name("one_device", device="CPU:0"), tf.distribute.OneDeviceStrategy
    )


def test_an_impossible_value_is_refused_by_the_factory() -> None:
    with pytest.raises(ValueError, match="`num_replicas` must be a positive integer"):
        strategies.strategy_by_name("mirrored", num_replicas=0)


def test_every_public_factory_has_a_name() -> None:
    public = {
        getattr(strategies, name) for name in strategies.__all__ if name.endswith("_strategy")
    }
    assert set(STRATEGIES.values()) == public


@pytest.mark.skipif(len(tf.config.list_physical_devices("GPU")) > 1, reason="this host has GPUs")
def test_a_host_without_gpus_and_cluster_gets_one_device(capfd: pytest.CaptureFixture[str]) -> None:
    strategy = strategies.auto_strategy()
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    assert "one replica on" in capfd.readouterr().err


def test_a_cluster_with_parameter_servers_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = {"worker": ["localhost:2"], "ps": ["localhost:3"]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    with pytest.raises(ValueError, match="at least one chief, a task of the job 'chief'"):
        strategies.auto_strategy()


def test_two_workers_of_tf_config_get_one_strategy_together() -> None:
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    workers = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        tf_config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        environment = {**os.environ, "TF_CONFIG": tf_config, "TF_CPP_MIN_LOG_LEVEL": "3"}
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", REPORT],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        results = [worker.communicate(timeout=240) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [output.split() for output, _ in results] == [
        ["CollectiveAllReduceStrategy", "2", "0"],
        ["CollectiveAllReduceStrategy", "2", "1"],
    ]
    chief, other = (errors for _, errors in results)
    assert "2 workers with 1 replica(s) each, from TF_CONFIG" in chief
    assert "tfscale:" not in other
