"""The interval of checkpoints: Young's and Daly's formulas against their exact optimum."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from tfscale.plan import checkpoint_interval, expected_run_seconds


def exact_optimum(save: float, mean: float) -> float:
    """Returns where the derivative of Daly's expected time is 0, by bisection.

    (tau / M - 1) exp((tau + delta) / M) + 1 = 0; the left side rises in tau.
    """
    low, high = 0.0, mean
    for _ in range(200):
        middle = (low + high) / 2
        if (middle / mean - 1) * math.exp((middle + save) / mean) + 1 < 0:
            low = middle
        else:
            high = middle
    return low


@pytest.mark.parametrize(
    ("ratio", "off", "cost"),
    [
        pytest.param(1e-4, 1e-6, 1e-12, id="a save of a ten-thousandth"),
        pytest.param(1e-2, 1e-4, 1e-8, id="a save of a hundredth"),
        pytest.param(0.1, 1e-3, 1e-6, id="a save of a tenth"),
        pytest.param(0.5, 6e-3, 1e-4, id="a save of half of it"),
        pytest.param(1.0, 0.02, 1e-3, id="a save as long as the time between failures"),
    ],
)
def test_dalys_interval_is_near_the_exact_optimum(ratio: float, off: float, cost: float) -> None:
    mean, save = 36_000.0, 36_000.0 * ratio
    found = checkpoint_interval(save_seconds=save, failure_seconds=mean)
    exact = exact_optimum(save, mean)
    assert found == pytest.approx(exact, rel=off)

    def time_with(interval: float) -> float:
        return expected_run_seconds(
            train_seconds=1e6,
            interval_seconds=interval,
            save_seconds=save,
            failure_seconds=mean,
        )

    assert time_with(found) <= (1 + cost) * time_with(exact)


def test_the_first_order_is_youngs_interval() -> None:
    # Young's own: sqrt(2 * 1 * 1e8). Daly's correction is of the order of the save itself.
    found = checkpoint_interval(save_seconds=1.0, failure_seconds=1e8)
    assert found == pytest.approx(math.sqrt(2e8), abs=1.0)


def test_many_workers_fail_as_often_as_one_that_fails_more() -> None:
    together = checkpoint_interval(save_seconds=30.0, failure_seconds=6.4e6, workers=64)
    assert together == checkpoint_interval(save_seconds=30.0, failure_seconds=1e5)


def test_a_save_of_twice_the_time_between_failures_is_refused() -> None:
    message = "`save_seconds` must be less than twice the mean time between failures of the job, 5 "
    with pytest.raises(ValueError, match=re.escape(message)):
        checkpoint_interval(save_seconds=10.0, failure_seconds=40.0, workers=8)
    assert checkpoint_interval(save_seconds=9.9, failure_seconds=40.0, workers=8) > 0


def test_the_expected_time_is_that_of_drawn_failures() -> None:
    # Each interval is tried until no failure comes; the restart may fail too. Drawn one by one.
    tau, delta, restart, mean = 30.0, 5.0, 10.0, 60.0
    random = np.random.default_rng(1)
    total, intervals = 0.0, 40_000
    for _ in range(intervals):
        wait = 0.0
        while (failure := random.exponential(mean)) < wait + tau + delta:
            total += failure
            wait = restart
        total += wait + tau + delta
    found = expected_run_seconds(
        train_seconds=tau * intervals,
        interval_seconds=tau,
        save_seconds=delta,
        failure_seconds=mean,
        restart_seconds=restart,
    )
    assert total == pytest.approx(found, rel=0.02)


def test_an_interval_that_no_start_survives_is_refused() -> None:
    with pytest.raises(ValueError, match="`interval_seconds` must be short enough for the job"):
        expected_run_seconds(
            train_seconds=1e6, interval_seconds=8e5, save_seconds=1.0, failure_seconds=1e3
        )


def test_times_that_a_float_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`failure_seconds` and `save_seconds` must have an"):
        checkpoint_interval(save_seconds=1e308, failure_seconds=1e308)
    with pytest.raises(ValueError, match=r"`failure_seconds` and `save_seconds` must have an"):
        checkpoint_interval(save_seconds=60.0, failure_seconds=1e308)
    with pytest.raises(ValueError, match=r"`train_seconds` must give a time that a float can hold"):
        expected_run_seconds(
            train_seconds=1e308, interval_seconds=10.0, save_seconds=1.0, failure_seconds=20.0
        )
