"""The best plan under limits, with times that are worked out by hand."""

from __future__ import annotations

import pytest

from tests.unit.tfscale.plan.simulation.predicted_steps import step
from tfscale.plan import Circumstances, Failures, JobPlan, Limits, Saves, StepPrediction, best_plan

# 3.6 million rows: 100 h on one worker, 28 h on four, 10 h on 16; each start takes 30 s.
STEPS = [step("ring", 1, 1.0), step("ring", 4, 1.12), step("ring", 16, 1.6)]


def plan_with(limits: Limits, steps: list[StepPrediction] = STEPS) -> JobPlan:
    return best_plan(steps, Circumstances(examples=3_600_000, limits=limits, repeats=2))


@pytest.mark.parametrize(
    ("limits", "workers", "reason"),
    [
        pytest.param(Limits(), 16, "Fastest of 3: ring on 16 workers. No limit", id="none"),
        pytest.param(
            Limits(deadline_seconds=30 * 3600, cost_per_hour=2.0),
            4,
            "Cheapest of the 2 that keep the deadline: ring on 4 workers.",
            id="deadline",
        ),
        pytest.param(
            Limits(budget=230.0, cost_per_hour=2.0),
            4,
            "Fastest of the 2 that keep the budget: ring on 4 workers.",
            id="budget",
        ),
        pytest.param(
            Limits(energy_kwh=21.0, watts=200.0),
            1,
            "The only one that keeps the energy limit: ring on 1 worker.",
            id="energy",
        ),
        pytest.param(
            Limits(deadline_seconds=11 * 3600, budget=330.0, cost_per_hour=2.0),
            16,
            "The only one that keeps the deadline and the budget: ring on 16 workers.",
            id="deadline and budget",
        ),
    ],
)
def test_the_best_plan_keeps_all_limits(limits: Limits, workers: int, reason: str) -> None:
    plan = plan_with(limits)
    assert plan.chosen is not None
    assert plan.chosen.prediction.workers == workers
    assert plan.reason.startswith(reason)


def test_costs_are_those_of_all_machines() -> None:
    plan = plan_with(Limits(cost_per_hour=2.0, watts=500.0))
    four = plan.jobs[1]
    hours = (30 + 90_000 * 1.12) / 3600
    assert four.seconds == pytest.approx(3600 * hours)
    assert four.cost(four.seconds) == pytest.approx(2.0 * 4 * hours)
    assert four.energy_kwh(four.seconds) == pytest.approx(0.5 * 4 * hours)


def test_servers_and_their_chief_cost_as_much_as_workers() -> None:
    circumstances = Circumstances(examples=1000, parameter_servers=2, repeats=2)
    (planned,) = best_plan([step("parameter_servers", 4, 1.0)], circumstances).jobs
    assert planned.machines == 4 + 2 + 1


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        pytest.param(
            Limits(deadline_seconds=9 * 3600),
            "Nothing fits: the nearest, ring on 16 workers, needs 1.01 h more than the deadline.",
            id="deadline",
        ),
        pytest.param(
            Limits(budget=100.0, cost_per_hour=2.0),
            "Nothing fits: the nearest, ring on 1 worker, needs 100 more than the budget.",
            id="budget",
        ),
        pytest.param(
            Limits(energy_kwh=10.0, watts=200.0),
            "Nothing fits: the nearest, ring on 1 worker, needs 10 kWh more than the energy limit.",
            id="energy",
        ),
    ],
)
def test_what_is_missing_is_said_of_the_nearest(limits: Limits, reason: str) -> None:
    plan = plan_with(limits)
    assert plan.chosen is None
    assert plan.reason == reason


def test_memory_is_asked_about_the_best_first_until_one_fits() -> None:
    asked: list[int] = []

    def bytes_missing(predicted: StepPrediction) -> int:
        asked.append(predicted.workers)
        return 2**30 if predicted.workers > 1 else 0

    circumstances = Circumstances(examples=3_600_000, repeats=2)
    plan = best_plan(STEPS, circumstances, bytes_missing=bytes_missing)
    assert asked == [16, 4, 1]
    assert plan.chosen is plan.jobs[0]
    assert [planned.misses for planned in plan.jobs] == [(), ("memory",), ("memory",)]
    none = best_plan(STEPS, circumstances, bytes_missing=lambda predicted: 3 * 2**29)
    assert none.chosen is None
    assert none.reason.endswith("needs 1.5 GiB more memory on a device.")


def test_an_interval_that_crosses_a_limit_is_named() -> None:
    steps = [step("ring", 16, 1.6, high=2.0)]
    plan = plan_with(Limits(deadline_seconds=11 * 3600), steps)
    assert plan.chosen is not None
    assert plan.reason.endswith(
        "predicted as 1,600 to 2,000 ms; at the upper end it misses the deadline: measure on "
        "more workers."
    )


def test_jobs_that_hardly_advance_and_strategies_that_do_not_exist_are_not_chosen() -> None:
    steps = [step("ring", 4, 1.0), step("ring", 4096, 1.0), step("compressed", 4, 0.5)]
    circumstances = Circumstances(
        examples=10_000_000, saves=Saves(60.0), failures=Failures(86_400.0), repeats=5
    )
    plan = best_plan(steps, circumstances)
    assert plan.chosen is plan.jobs[0]
    assert [planned.misses for planned in plan.jobs[1:]] == [
        ("fails too often",),
        ("not offered",),
    ]
    none = best_plan(steps[1:], circumstances)
    assert none.reason.startswith("Nothing fits: workers fail so often that no job advances.")


def test_a_limit_needs_its_price() -> None:
    with pytest.raises(ValueError, match="`cost_per_hour` must be given with `budget`"):
        Limits(budget=5.0)
    with pytest.raises(ValueError, match="`watts` must be given with `energy_kwh`"):
        Limits(energy_kwh=5.0)
