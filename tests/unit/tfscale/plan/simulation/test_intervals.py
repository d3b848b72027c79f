"""The best interval by simulation against Daly's, and what the difference costs."""

from __future__ import annotations

import pytest

from tfscale.plan import (
    Failures,
    Saves,
    TrainingJob,
    checkpoint_interval,
    expected_run_seconds,
    interval_curve,
)


def job_with(save: float, mean: float, step: float, steps: int) -> TrainingJob:
    failures = Failures(
        64 * mean, detection_seconds=15, wait_seconds=1, start_seconds=30, restore_seconds=20
    )
    return TrainingJob(
        steps=steps,
        step_seconds=step,
        workers=64,
        saves=Saves(save, taken_seconds=save),
        failures=failures,
    )


CASES = [
    pytest.param(60.0, 40_500.0, 1.0, id="a failure in half a day"),
    pytest.param(30.0, 3600.0, 0.5, marks=pytest.mark.thorough, id="a failure an hour"),
    pytest.param(100.0, 1000.0, 1.0, marks=pytest.mark.thorough, id="a save of a tenth"),
]


@pytest.mark.parametrize(("save", "mean", "step"), CASES)
def test_dalys_interval_is_the_best_one_of_the_simulation(
    save: float, mean: float, step: float
) -> None:
    steps = round(150 * mean / step)
    job = job_with(save, mean, step, steps)
    daly = checkpoint_interval(save_seconds=save, failure_seconds=mean)
    assert job.every == round(daly / step)
    everys = [round(ratio * job.every) for ratio in (0.4, 0.55, 0.75, 1, 1.35, 1.8, 2.5)]
    curve = interval_curve(job, everys=everys, repeats=40)
    assert curve.best_every == pytest.approx(job.every, rel=0.1)
    cost = curve.seconds_at(job.every) / curve.seconds_at(curve.best_every) - 1
    assert 0 <= cost < 0.002
    for forecast in curve.forecasts:
        exact = expected_run_seconds(
            train_seconds=steps * step,
            interval_seconds=forecast.job.every * step,
            save_seconds=save,
            failure_seconds=mean,
            restart_seconds=66.0,
        )
        assert forecast.seconds == pytest.approx(exact, rel=0.02)


def test_the_best_interval_must_be_inside() -> None:
    job = job_with(60.0, 40_500.0, 1.0, 400_000)
    with pytest.raises(ValueError, match="`everys` must have the best number between"):
        interval_curve(job, everys=[20, 30, 40], repeats=3)
    with pytest.raises(ValueError, match="`everys` must be at least three"):
        interval_curve(job, everys=[20, 30], repeats=3)


def test_without_failures_there_is_no_best_interval() -> None:
    with pytest.raises(ValueError, match="`job` must have failures"):
        interval_curve(TrainingJob(steps=10, step_seconds=1.0, saves=Saves(5.0)))
