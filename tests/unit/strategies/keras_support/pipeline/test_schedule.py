"""Schedules against closed forms, and against the tables of the papers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from strategies.keras_support.pipeline.schedule import (
    SCHEDULES,
    Unit,
    bubble_by_formula,
    device_orders,
    most_in_memory,
    needed_before,
    timeline,
)

SIZES = [(s, m) for s in (1, 2, 4, 8) for m in (1, 2, 8, 24)]
CASES = [
    (schedule, s, m, v)
    for s, m in SIZES
    for schedule in SCHEDULES
    for v in ((1,) if schedule != "interleaved" else (1, 2, 3))
    if schedule != "interleaved" or m % s == 0
]


def forward_and_backward(forward: int, backward: int) -> Callable[[Unit], int]:
    return lambda unit: forward if unit.is_forward else backward


@pytest.mark.parametrize(("schedule", "stages", "microbatches", "virtual"), CASES)
def test_each_unit_runs_once_and_the_bubble_is_that_of_the_papers(
    schedule: str, stages: int, microbatches: int, virtual: int
) -> None:
    orders = device_orders(schedule, stages, microbatches, virtual)
    assert sorted((u.is_forward, u.chunk, u.microbatch) for order in orders for u in order) == [
        (is_forward, chunk, m)
        for is_forward in (False, True)
        for chunk in range(stages * virtual)
        for m in range(microbatches)
    ]
    assert all(u.chunk % stages == device for device, order in enumerate(orders) for u in order)
    for durations in ((1, 1), (1, 2), (3, 5)):
        run = timeline(orders, forward_and_backward(*durations))
        assert run.bubble == pytest.approx(bubble_by_formula(stages, microbatches, virtual))
        assert run.makespan == sum(durations) * (virtual * microbatches + stages - 1)


@pytest.mark.parametrize(("schedule", "stages", "microbatches", "virtual"), CASES)
def test_a_unit_is_traced_after_what_it_needs(
    schedule: str, stages: int, microbatches: int, virtual: int
) -> None:
    orders = device_orders(schedule, stages, microbatches, virtual)
    seen: set[Unit] = set()
    by_device: list[list[Unit]] = [[] for _ in orders]
    for unit in timeline(orders).in_order_of_begin():
        needed = needed_before(unit, stages * virtual)
        assert needed is None or needed in seen
        seen.add(unit)
        by_device[unit.chunk % stages].append(unit)
    assert by_device == orders


@pytest.mark.parametrize(("stages", "microbatches"), SIZES)
def test_one_forward_one_backward_keeps_few_microbatches(stages: int, microbatches: int) -> None:
    of_all = device_orders("gpipe", stages, microbatches)
    of_few = device_orders("1f1b", stages, microbatches)
    assert [most_in_memory(order) for order in of_all] == [microbatches] * stages
    assert [most_in_memory(order) for order in of_few] == [
        min(microbatches, stages - device) for device in range(stages)
    ]


def test_the_figure_of_the_interleaved_schedule() -> None:
    """Figure 4 of arXiv:2104.04473: 4 devices, 8 microbatches, 2 chunks a device."""
    first = device_orders("interleaved", 4, 8, 2)[0]
    shown = [f"{'F' if u.is_forward else 'B'}{u.chunk // 4}.{u.microbatch + 1}" for u in first]
    assert " ".join(shown[:12]) == ("F0.1 F0.2 F0.3 F0.4 F1.1 F1.2 F1.3 F1.4 F0.5 F0.6 F0.7 B1.1")
    assert most_in_memory(first) == 11


def test_devices_that_wait_for_each_other_are_refused() -> None:
    orders = [[Unit(False, 0, 0), Unit(True, 0, 0)], [Unit(True, 1, 0), Unit(False, 1, 0)]]
    with pytest.raises(ValueError, match="wait for each other"):
        timeline(orders)
