"""Which variants a host with GPUs can time; its GPUs are made up."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from tfscale.bench.gpus import one_gpu_each, process_index, with_gpus
from tfscale.bench.variant import PROCESS_VARIABLE

TF_CONFIG = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'


class Recorded:
    """Takes the place of the connection, and of the way to train."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.trained = 0

    def fail(self, kind: str, text: str) -> None:
        assert kind == "missing"
        self.missing.append(text)

    def way(self, race: Any, turns: Any, num_workers: int) -> None:
        self.trained += 1


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The GPUs that processes have left visible."""
    seen: list[str] = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda gpu, kind: seen.append(gpu))
    return seen


def host_with(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"GPU:{index}" for index in range(gpus)]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: names)


@pytest.mark.parametrize(("gpus", "is_missing"), [(0, False), (1, True), (2, False), (8, False)])
@pytest.mark.parametrize("limited", [with_gpus, one_gpu_each])
def test_a_variant_that_needs_more_gpus_than_there_are_is_missing(
    limited: Any, gpus: int, is_missing: bool, visible: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host_with(gpus, monkeypatch)
    recorded = Recorded()
    limited(recorded.way, 2)(None, recorded, 0)
    assert recorded.trained == (not is_missing)
    assert recorded.missing == ["needs 2 GPUs, and this host has 1"] * is_missing


def test_each_process_sees_a_gpu_of_its_own(
    visible: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host_with(4, monkeypatch)
    recorded = Recorded()
    limited: Any = one_gpu_each(recorded.way, 2)
    for index in ("0", "1"):
        monkeypatch.setenv(PROCESS_VARIABLE, index)
        limited(None, recorded, 0)
    monkeypatch.setenv("TF_CONFIG", TF_CONFIG)  # A worker's index is that of its task.
    monkeypatch.setenv(PROCESS_VARIABLE, "0")
    limited(None, recorded, 2)
    assert visible == ["GPU:0", "GPU:1", "GPU:1"]
    assert recorded.trained == 3


def test_a_single_process_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROCESS_VARIABLE, raising=False)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert process_index() == 0
