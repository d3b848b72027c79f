"""The cheapest plan, on cases made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tfscale.plan.memory.costs import Configuration, cheapest, communicated_bytes
from tfscale.plan.memory.device_memory import DeviceMemory
from tfscale.plan.memory.model_parallel import Division


def configuration(
    *,
    sends: int = 0,
    again: int = 0,
    parts: int = 1,
    shard: int = 0,
    total: int = 0,
    fits: bool = True,
    stages: int = 1,
) -> Configuration:
    division = Division(stages, "1f1b" if stages > 1 else "")
    memory = DeviceMemory(total, 0, 0, 0, 0, 0, 0, 0, "backward")
    return Configuration(shard, "as_is", parts, "none", memory, sends, again, fits, division)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param({"sends": 9, "parts": 9}, {"stages": 2}, id="devices first"),
        pytest.param({"sends": 1, "again": 9, "parts": 9}, {"sends": 2}, id="then communication"),
        pytest.param(
            {"stages": 2, "parts": 4, "again": 9}, {"stages": 2, "parts": 2}, id="then waiting"
        ),
        pytest.param({"again": 1, "parts": 9, "total": 9}, {"again": 2}, id="then recomputing"),
        pytest.param({"parts": 1, "total": 9}, {"parts": 2}, id="then microbatches"),
        pytest.param({"shard": 1, "total": 9}, {"shard": 2}, id="then what is divided"),
        pytest.param({"total": 1}, {"total": 2}, id="then memory"),
    ],
)
def test_costs_have_an_order(better: dict[str, Any], worse: dict[str, Any]) -> None:
    first, second = configuration(**better), configuration(**worse)
    assert cheapest([second, first]) is first


def test_what_does_not_fit_is_never_the_cheapest() -> None:
    small = configuration(sends=5)
    assert cheapest([configuration(fits=False), small]) is small
    assert cheapest([configuration(fits=False)]) is None


@pytest.mark.parametrize(
    ("shard", "microbatches", "expected"),
    [
        pytest.param(0, 1, 2 * 100, id="all-reduce"),
        pytest.param(0, 4, 2 * 100, id="sums are reduced once"),
        pytest.param(1, 4, 2 * 100 + 60, id="and updated parameters"),
        pytest.param(2, 4, 2 * 100 + 60, id="the same"),
        pytest.param(3, 1, 2 * 100 + 2 * 60, id="gathered twice"),
        pytest.param(3, 4, 4 * (2 * 100 + 2 * 60), id="for each microbatch"),
    ],
)
def test_bytes_sent_by_each_of_four_replicas(shard: int, microbatches: int, expected: int) -> None:
    sent = communicated_bytes(60, 100, replicas=4, shard=shard, microbatches=microbatches)
    assert sent == expected * 3 // 4


def test_a_pipeline_reduces_the_gradients_of_all_microbatches_at_once() -> None:
    sent = communicated_bytes(60, 100, replicas=4, shard=3, microbatches=4, is_pipeline=True)
    assert sent == (2 * 100 + 4 * 2 * 60) * 3 // 4


def test_one_replica_sends_nothing() -> None:
    assert communicated_bytes(60, 100, replicas=1, shard=3, microbatches=1) == 0
