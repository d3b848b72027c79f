"""A missing TPU is an error at once; one that does not get ready is an error at the deadline.

Not tested on a host with a TPU.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf  # noqa: F401  (its import is not what is timed)

import strategies.tpu.strategy
from strategies.cluster.startup_deadline import startup_deadline
from tests.programs import completed

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.skipif(
        any(Path(name).exists() for name in strategies.tpu.strategy._DEVICE_FILES),
        reason="this host has a device file of a TPU",
    ),
]

VARIABLES = ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES", "TPU_ACCELERATOR_TYPE")
NAMES = ("TPU_NAME", "KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS")
# Initialising without an answer of the TPU: it keeps Python's lock, so no thread runs.
STUCK = """
import ctypes
from strategies.cluster.startup_deadline import startup_deadline
with startup_deadline("TPU 'local'", 1.0, expired="Not {braced}, last {phase}.") as begin:
    begin("initialising it")
    ctypes.PyDLL(None).sleep(600)
"""


@pytest.fixture(autouse=True)
def _no_tpu_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *NAMES):
        monkeypatch.delenv(name, raising=False)


def test_a_host_without_a_tpu_is_refused_without_asking_the_network() -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match="`tpu` must name a TPU if this host has none"):
        strategies.tpu_strategy()
    assert time.monotonic() - began < 60  # the metadata server is asked for minutes


def test_the_error_names_what_was_looked_for_and_the_cure() -> None:
    message = "Received: tpu='local'.*TPU_WORKER_ID.*/dev/accel0.*Use|use.*`mirrored_strategy`"
    with pytest.raises(ValueError, match=message):
        strategies.tpu_strategy("local")


def test_a_refused_tpu_leaves_tensorflow_unstarted() -> None:
    with pytest.raises(ValueError, match="`tpu`"):
        strategies.tpu_strategy()
    # TensorFlow cannot split its CPU after it has started.
    assert strategies.mirrored_strategy(2).num_replicas_in_sync == 2


@pytest.mark.parametrize("name", VARIABLES)
def test_each_variable_of_a_tpu_vm_is_recognised(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert not strategies.tpu.strategy.has_local_tpu()
    monkeypatch.setenv(name, "0")
    assert strategies.tpu.strategy.has_local_tpu()


@pytest.mark.parametrize("tpu", ["", " ", None])
def test_a_tpu_without_a_name_is_refused(tpu: Any) -> None:
    with pytest.raises(ValueError, match="`tpu` must be 'local', a TPU's name or its address"):
        strategies.tpu_strategy(tpu)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_deadline_must_be_positive(seconds: float) -> None:
    with pytest.raises(ValueError, match="`bring_up_seconds` must be positive"):
        strategies.tpu_strategy(bring_up_seconds=seconds)


def slice_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "10.0.0.2,10.0.0.3")


def test_one_vm_of_a_slice_must_name_the_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    slice_of_two(monkeypatch)
    message = "name of the slice, which has 2 VMs.*on worker 1 of 10.0.0.2, 10.0.0.3"
    with pytest.raises(ValueError, match=message):
        strategies.tpu_strategy()


def test_the_tpu_chosen_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert strategies.tpu.strategy.automatic_tpu() is None
    monkeypatch.setenv("TPU_NAME", "my-slice")
    assert strategies.tpu.strategy.automatic_tpu() is None  # which makes no TPU VM
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    assert strategies.tpu.strategy.automatic_tpu() == "local"
    slice_of_two(monkeypatch)
    assert strategies.tpu.strategy.automatic_tpu() == "my-slice"


def test_auto_strategy_takes_the_tpu_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    slice_of_two(monkeypatch)
    with pytest.raises(ValueError, match="`tpu` must be the name of the slice"):
        strategies.auto_strategy()


def test_a_tpu_that_does_not_start_ends_the_process_at_the_deadline() -> None:
    began = time.monotonic()
    done = completed("-c", STUCK, timeout=400)
    assert done.returncode == -signal.SIGKILL
    assert time.monotonic() - began < 300
    assert done.stderr.splitlines() == [
        "tfscale: TPU 'local': initialising it.",
        "tfscale: Not {braced}, last initialising it.",
    ]


def test_a_tpu_that_starts_in_time_leaves_no_watch_behind(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with startup_deadline("TPU 'local'", 60.0, expired="") as begin:
        begin("initialising it")
    assert capfd.readouterr().err == "tfscale: TPU 'local': initialising it.\n"
