"""Bytes of collectives beside hand-worked sums, and beside what the kernel counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from tests.programs import ROOT, own_environment
from tfscale.callbacks import Monitor

pytestmark = pytest.mark.own_process
WEIGHTS = 3 * 2 + 2  # of a dense layer


@pytest.fixture(scope="module")
def three_replicas() -> strategies.Strategy:
    return strategies.mirrored_strategy(num_replicas=3)


def dense(strategy: Any, *more: keras.layers.Layer) -> keras.Model:
    with strategy.scope():
        built = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), *more])
        built.compile("sgd", "mse")
    return built


BATCH = tf.TensorSpec([4, 3]), tf.TensorSpec([4, 2])


def test_a_ring_sends_twice_all_but_one_part_of_gradients_and_loss(three_replicas: Any) -> None:
    found = tfscale.monitor.training_collectives(dense(three_replicas), BATCH)
    given = 4 * (WEIGHTS + 1)
    assert dict(found.given) == {"CollectiveReduceV2": given}
    assert found.sent == 2 * 2 / 3 * given
    assert found.is_known


def test_a_clipped_norm_and_two_parts_of_a_model_are_one_pack(three_replicas: Any) -> None:
    model = dense(three_replicas, keras.layers.Dense(5, use_bias=False), keras.layers.Dense(2))
    model.optimizer.global_clipnorm = 1.0
    found = tfscale.monitor.training_collectives(model, BATCH)
    assert sum(found.given.values()) == 4 * (WEIGHTS + 2 * 5 + 5 * 2 + 2 + 1)


def test_one_device_sends_nothing(three_replicas: Any) -> None:
    found = tfscale.monitor.training_collectives(dense(strategies.one_device_strategy()), BATCH)
    assert (found.sent, found.replicas, found.is_known) == (0, 1, True)


def test_what_replicas_copy_without_a_collective_is_not_known(three_replicas: Any) -> None:
    strategy = strategies.mirrored_strategy(num_replicas=2, all_reduce="reduction_to_one_device")
    found = tfscale.monitor.training_collectives(dense(strategy), BATCH)
    assert not found.given
    assert not found.is_known


def test_steps_that_exchange_no_gradients_have_no_bytes(
    three_replicas: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    x, y = np.ones([36, 3], "float32"), np.ones([36, 2], "float32")
    monitor = Monitor()
    callbacks = [tfscale.callbacks.LocalUpdates(2), monitor]
    dense(three_replicas).fit(x, y, batch_size=12, callbacks=callbacks, verbose=0)
    assert monitor.collective_bytes_per_step is None
    assert "does not count the bytes of collectives" in capfd.readouterr().err


def test_monitor_has_the_bytes_of_all_its_replicas_in_each_line(
    three_replicas: Any, tmp_path: Path
) -> None:
    x, y = np.ones([36, 3], "float32"), np.ones([36, 2], "float32")
    monitor = Monitor(tmp_path)
    dense(three_replicas).fit(x, y, batch_size=12, callbacks=[monitor], epochs=2, verbose=0)
    a_step = 3 * 2 * 2 / 3 * 4 * (WEIGHTS + 1)
    assert monitor.collective_bytes_per_step == a_step
    text = (tmp_path / "monitor-0.jsonl").read_text("utf-8")
    lines = [line for line in map(json.loads, text.splitlines()) if line["event"] == "steps"]
    assert [line["collective_bytes"] for line in lines] == [
        a_step * line["steps"] for line in lines
    ]
    assert sum(line["steps"] for line in lines) == 6


@pytest.mark.thorough
@pytest.mark.parametrize("all_reduce", ["ring", "mpi"])
def test_two_workers_send_what_is_counted(tmp_path: Path, all_reduce: str) -> None:
    """In a network of their own, whose counter of "lo" has nothing else."""
    inside = 'ip link set lo up && exec "$@"'
    network = ("unshare", "--net", "sh", "-c", inside, "sh")
    if subprocess.run([*network, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to make a network namespace, such as root's")
    program = "tests.unit.tfscale.monitor.sending_training"
    launch = (sys.executable, "-m", "tfscale", "launch", "--num_workers=2", "--")
    ended = subprocess.run(
        [*network, *launch, sys.executable, "-m", program, str(tmp_path), all_reduce],
        cwd=ROOT,
        env=own_environment(),
        timeout=400,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "given.json").read_text("utf-8"))
    given = 4 * (1024 * 1024 + 1024 + 1)
    if all_reduce == "mpi":
        pytest.importorskip("mpi4py")
        assert found == {"given": {"MPI all-reduce": given}, "sent": given}
        return
    assert found == {"given": {"CollectiveReduceV2": given}, "sent": given}
    text = (tmp_path / "monitor-0.jsonl").read_text("utf-8")
    lines = [line for line in map(json.loads, text.splitlines()) if line["event"] == "steps"][1:]
    counted = sum(line["collective_bytes"] for line in lines)
    assert counted == given * sum(line["steps"] for line in lines)
    # Both workers, over the loopback of their namespace, with the headers of TCP and gRPC.
    sent = sum(line["network"]["loopback"] for line in lines)
    assert sent == pytest.approx(2 * counted, rel=0.03)
