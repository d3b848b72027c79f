"""How many steps an execution takes, by the time of the executions before it."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from strategies.keras_support.input.execution_size import ExecutionSize


def sized(seconds: list[float], num_steps: int = 1000) -> ExecutionSize:
    """One that has seen executions that took so long a step."""
    now = [0.0]
    size = ExecutionSize(num_steps, clock=lambda: now[0])

    class Steps:
        count: int | None = 1

    for each in seconds:
        execution = Steps()
        execution.count = size.steps

        def run(execution: Any, each: float = each) -> dict[str, float]:
            now[0] += each * execution.count
            return {}

        size.timed(run, execution)
    return size


def test_an_execution_takes_twenty_milliseconds() -> None:
    assert sized([0.5, 1e-3, 1e-3, 1e-3, 1e-3], 10_000).steps == 20


def test_long_steps_are_executed_one_by_one() -> None:
    size = sized([0.5, *[6e-3] * 9], 10_000)
    assert str(size) == "1 (a step takes 6 ms)"


def test_a_slow_start_is_measured_again() -> None:
    assert sized([0.5, *[6e-3] * 10, *[1e-3] * 9], 10_000).steps == 20


def test_after_many_long_steps_none_is_measured() -> None:
    assert sized([0.5, *[6e-3] * 64, *[1e-3] * 9], 10_000).steps == 1


def test_the_first_step_which_is_traced_is_not_measured() -> None:
    assert sized([0.5, 1e-3, 1e-3, 1e-3], 10_000).steps == 1


def test_a_pause_of_the_machine_changes_nothing() -> None:
    assert sized([0.5, 1e-3, 1e-3, 0.1, 1e-3, 1e-3], 10_000).steps == 20


def test_longer_steps_later_make_executions_smaller() -> None:
    assert sized([0.5, *[1e-3] * 6, *[1e-2] * 9], 10_000).steps == 2


@pytest.mark.parametrize(("awaits", "expected"), [(True, 10), (False, 2000)])
def test_a_call_that_returns_before_its_steps_end_is_awaited(awaits: bool, expected: int) -> None:
    now = [0.0]

    class Late(tf.__internal__.types.Tensor):
        def numpy(self) -> float:
            now[0] += 2e-3
            return 0.0

    def run(execution: Any) -> dict[str, Any]:
        now[0] += 1e-5
        return {"loss": Late()}

    size = ExecutionSize(10**6, is_asynchronous_device=awaits, clock=lambda: now[0])
    execution = type("Single", (), {"count": 1})()
    for _ in range(5):
        size.timed(run, execution)
    assert size.steps == expected


@pytest.mark.parametrize(("steps", "expected"), [(1010, 20), (1000, 1)])
def test_what_a_second_function_costs_must_be_earned_back(steps: int, expected: int) -> None:
    # 0.6 of 0.5 s for the first execution, 0.3 ms a step: 1,000 steps after the first five.
    assert sized([0.5, 1e-3, 1e-3, 1e-3, 1e-3], steps).steps == expected
