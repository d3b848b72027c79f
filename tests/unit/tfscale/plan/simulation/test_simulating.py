"""The course of a job: Daly's formula, hand-worked times, the renewal theorem."""

from __future__ import annotations

import dataclasses
import math
import warnings

import pytest

from tfscale.plan import (
    Failures,
    JobForecast,
    Saves,
    Stragglers,
    TrainingJob,
    expected_run_seconds,
    simulate_job,
)
from tfscale.plan.simulation import simulating

PLAIN = Failures(
    8000.0, detection_seconds=0, wait_seconds=0, start_seconds=0, restore_seconds=0
)  # nothing but lost work


def error_of(forecast: JobForecast) -> float:
    """Returns the standard error of the mean time."""
    return float(forecast.repeat_seconds.std()) / math.sqrt(len(forecast.starts))


@pytest.mark.parametrize(
    ("interval", "save", "mean", "restart"),
    [
        pytest.param(30, 5.0, 60.0, 0.0, id="a failure in half of all intervals"),
        pytest.param(30, 5.0, 60.0, 10.0, id="and in restarts"),
        pytest.param(100, 5.0, 400.0, 20.0, id="fewer"),
        pytest.param(400, 30.0, 10_000.0, 60.0, id="few"),
    ],
)
def test_the_mean_time_is_dalys(interval: int, save: float, mean: float, restart: float) -> None:
    job = TrainingJob(
        steps=interval * 100,
        step_seconds=1.0,
        workers=8,
        saves=Saves(save, taken_seconds=save, every=interval),
        failures=dataclasses.replace(
            PLAIN, seconds=8 * mean, detection_seconds=restart / 2, start_seconds=restart / 2
        ),
    )
    forecast = simulate_job(job, repeats=300)
    exact = expected_run_seconds(
        train_seconds=100.0 * interval,
        interval_seconds=interval,
        save_seconds=save,
        failure_seconds=8 * mean,
        workers=8,
        restart_seconds=restart,
    )
    # Daly's job need not start before its first step.
    assert forecast.seconds - restart / 2 == pytest.approx(exact, abs=4 * error_of(forecast))
    assert error_of(forecast) < 0.02 * exact
    assert forecast.low_seconds < forecast.seconds < forecast.high_seconds


def test_times_without_failures_are_worked_by_hand() -> None:
    # Ten steps of 1 s: 4, 1 s of a save, 4, 1 s of a save, 2, and the last save as a whole.
    job = TrainingJob(steps=10, step_seconds=1.0, saves=Saves(3.0, taken_seconds=1.0, every=4))
    found = simulate_job(job, repeats=2).goodput.seconds
    assert (found["start"], found["step"], found["save"]) == (30, 10, 5)
    # Written in 8 s, a save begins every 8 s: at 4, 12 and 20 s, and ends at 28 s.
    job = dataclasses.replace(job, saves=Saves(8.0, taken_seconds=1.0, every=4))
    found = simulate_job(job, repeats=2).goodput.seconds
    assert (found["step"], found["save"], sum(found.values())) == (10, 18, 58)


def test_kinds_of_a_step_are_those_of_its_parts() -> None:
    job = TrainingJob(
        steps=1000,
        step_seconds=1.0,
        workers=100,
        communication_seconds=0.2,
        input_seconds=0.1,
        stragglers=Stragglers(1.0, shape="exponential"),
    )
    found = simulate_job(job, repeats=50).goodput.seconds
    slowest = 0.7 * sum(1 / n for n in range(1, 101))
    whole = 1000 * (0.3 + slowest)
    assert sum(found.values()) - 30 == pytest.approx(whole, rel=0.005)
    assert found["step"] == pytest.approx(700, rel=0.01)
    assert found["input_wait"] == pytest.approx(100, rel=0.01)
    assert found["waiting_for_workers"] == pytest.approx(whole - 800, rel=0.01)


@pytest.mark.parametrize("shape", [0.7, 3.0])
def test_workers_that_age_fail_as_often_in_the_long_run(shape: float) -> None:
    job = TrainingJob(
        steps=200_000,
        step_seconds=1.0,
        saves=Saves(1.0, every=10),
        failures=dataclasses.replace(PLAIN, seconds=1000.0, shape=shape),
    )
    forecast = simulate_job(job, repeats=20)
    # The renewal theorem: one failure in 1000 s.
    assert forecast.seconds / forecast.restarts == pytest.approx(1000, rel=0.05)


def test_a_job_waits_for_a_host_unless_it_has_a_spare_or_may_shrink() -> None:
    failures = dataclasses.replace(PLAIN, seconds=4e5, replace_seconds=3600.0)
    job = TrainingJob(
        steps=200_000, step_seconds=1.0, workers=8, saves=Saves(10.0), failures=failures
    )

    def forecast_with(changed: Failures) -> JobForecast:
        return simulate_job(dataclasses.replace(job, failures=changed))

    waiting = forecast_with(failures)
    spared = forecast_with(dataclasses.replace(failures, spares=2))
    shrunk = forecast_with(dataclasses.replace(failures, least_workers=6))
    # An hour, or until one of the other seven fails: the mean of the shorter.
    rate = 7 / 4e5
    wait = -math.expm1(-rate * 3600) / rate
    assert waiting.goodput.seconds["stopped"] == pytest.approx(wait * waiting.restarts, rel=0.02)
    assert spared.goodput.seconds["stopped"] < 0.1 * waiting.goodput.seconds["stopped"]
    # An eighth of an hour for each failure, in which seven workers do the work of eight.
    extra = shrunk.seconds - spared.seconds
    assert extra == pytest.approx(3600 / 8 * spared.restarts, rel=0.25)
    assert shrunk.restarts == pytest.approx(2 * spared.restarts, rel=0.15)  # and back to eight


def test_one_worker_waits_for_its_host_as_dalys_restart() -> None:
    # While its host is missing it cannot fail again, so a wait of an hour is paid once a failure.
    job = TrainingJob(
        steps=20_000,
        step_seconds=1.0,
        saves=Saves(5.0, taken_seconds=5.0, every=200),
        failures=dataclasses.replace(PLAIN, seconds=4000.0, replace_seconds=3600.0),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast = simulate_job(job, repeats=200)
    found = forecast.goodput.seconds
    assert found["step"] == pytest.approx(20_000)
    assert found["stopped"] == pytest.approx(3600 * forecast.restarts)
    without_waits = expected_run_seconds(
        train_seconds=20_000, interval_seconds=200, save_seconds=5, failure_seconds=4000
    )
    error = error_of(forecast)
    assert forecast.seconds - found["stopped"] == pytest.approx(without_waits, abs=4 * error)


def test_a_worker_that_fails_does_not_end_asynchronous_training() -> None:
    failures = Failures(1e5, detection_seconds=100, wait_seconds=0, start_seconds=0)
    job = TrainingJob(
        steps=100_000, step_seconds=1.0, workers=64, saves=Saves(10.0), failures=failures
    )
    alone = simulate_job(dataclasses.replace(job, parameter_servers=2))
    assert alone.restarts < simulate_job(job).restarts / 10
    # Each worker is missing for 100 s of 1e5: for a thousandth of the steps.
    found = alone.goodput.seconds
    assert found["stopped"] - 100 * alone.restarts == pytest.approx(100, rel=0.05)
    assert found["step"] == pytest.approx(100_000, rel=1e-6)


def test_the_same_seed_draws_the_same_course_and_the_same_failures_for_every_interval() -> None:
    job = TrainingJob(
        steps=50_000,
        step_seconds=1.0,
        workers=8,
        saves=Saves(20.0, every=500),
        failures=Failures(80_000.0),
    )
    first, second = simulate_job(job, seed=7), simulate_job(job, seed=7)
    assert (first.repeat_seconds == second.repeat_seconds).all()
    assert (first.repeat_seconds != simulate_job(job, seed=8).repeat_seconds).any()
    # Common failures: the difference of independent times would vary 1.4 times as much as they do.
    other = simulate_job(dataclasses.replace(job, saves=Saves(20.0, every=600)), seed=7)
    difference = (other.repeat_seconds - first.repeat_seconds).std()
    assert difference < 0.8 * first.repeat_seconds.std()


def test_the_kinds_add_up_and_restarts_are_counted() -> None:
    job = TrainingJob(
        steps=20_000,
        step_seconds=1.0,
        workers=4,
        saves=Saves(5.0),
        failures=dataclasses.replace(
            PLAIN, detection_seconds=10, start_seconds=20, restore_seconds=5
        ),
    )
    forecast = simulate_job(job, repeats=200)
    found = forecast.goodput.seconds
    assert sum(found.values()) == pytest.approx(forecast.seconds)
    assert found["stopped"] == pytest.approx(10 * forecast.restarts, rel=0.02)
    assert found["start"] == pytest.approx(20 * (forecast.restarts + 1), rel=0.02)
    # Not before the first save, which comes after 79 of 2,000 s.
    assert found["restore"] == pytest.approx(5 * forecast.restarts, rel=0.05)
    assert forecast.seconds / forecast.restarts == pytest.approx(2000, rel=0.1)
    assert forecast.most_restarts >= forecast.restarts


def test_a_job_saves_by_daly_but_no_more_often_than_saves_are_written() -> None:
    job = TrainingJob(
        steps=10_000,
        step_seconds=2.0,
        saves=Saves(1.0, taken_seconds=1.0),
        failures=dataclasses.replace(PLAIN, seconds=20_000.0),
    )
    assert job.every == round((math.sqrt(40_000) - 1 + 1 / 3) / 2)
    assert dataclasses.replace(job, saves=Saves(1000.0, taken_seconds=1.0)).every == round(999 / 2)
    assert dataclasses.replace(job, failures=None).every == 10_000


def test_a_job_that_never_reaches_a_save_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulating, "MOST_STARTS", 50)
    job = TrainingJob(
        steps=10_000,
        step_seconds=1.0,
        workers=100,
        saves=Saves(5.0, every=5000),
        failures=dataclasses.replace(PLAIN, seconds=1000.0),
    )
    with pytest.raises(ValueError, match="`failures` must leave the job time to reach a save"):
        simulate_job(job, repeats=3)
