"""How long the slowest worker takes: closed forms of order statistics, and drawn steps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tfscale.plan import Stragglers


@pytest.mark.parametrize("workers", [1, 2, 10, 100, 4096])
def test_the_slowest_of_exponential_times_is_a_harmonic_number(workers: int) -> None:
    rounds = Stragglers(0.3, shape="exponential").rounds(workers=workers)
    harmonic = sum(1 / n for n in range(1, workers + 1))
    assert rounds.mean == pytest.approx(0.7 + 0.3 * harmonic, rel=1e-6)
    squares = sum(1 / n**2 for n in range(1, workers + 1))
    assert rounds.deviation == pytest.approx(0.3 * math.sqrt(squares), rel=1e-5)


# Tables of normal order statistics (Harter 1961): means of the largest of n.
@pytest.mark.parametrize(("workers", "largest"), [(2, 0.56419), (10, 1.53875), (100, 2.50759)])
def test_the_slowest_of_nearly_equal_workers_is_that_of_normal_times(
    workers: int, largest: float
) -> None:
    rounds = Stragglers(1e-4).rounds(workers=workers)
    assert (rounds.mean - 1) / 1e-4 == pytest.approx(largest, rel=1e-3)


def test_the_slower_of_two_lognormal_times_has_a_closed_form() -> None:
    sigma = math.sqrt(math.log1p(0.5**2))
    exact = 1 + math.erf(sigma / 2)
    assert Stragglers(0.5).rounds(workers=2).mean == pytest.approx(exact, rel=1e-6)


def test_one_slow_worker_in_many_is_enough() -> None:
    rounds = Stragglers(slow_share=0.01, slow_factor=3.0).rounds(workers=50)
    none_is_slow = 0.99**50
    assert rounds.mean == pytest.approx(none_is_slow + 3 * (1 - none_is_slow), rel=1e-4)
    assert rounds.own_mean == pytest.approx(1.02)


def test_equal_workers_wait_for_none() -> None:
    rounds = Stragglers().rounds(workers=1000, steps=8)
    assert (rounds.mean, rounds.deviation, rounds.own_mean) == (8.0, 0.0, 8.0)


@pytest.mark.parametrize(
    "stragglers",
    [
        pytest.param(Stragglers(0.5, shape="exponential"), id="exponential"),
        pytest.param(Stragglers(0.4, slow_share=0.02, slow_factor=4.0), id="lognormal and slow"),
        pytest.param(Stragglers(slow_share=0.1, slow_factor=4.0), id="two values"),
    ],
)
@pytest.mark.parametrize("steps", [2, 16])
def test_a_round_of_local_updates_is_the_largest_of_sums(
    stragglers: Stragglers, steps: int
) -> None:
    random = np.random.default_rng(0)
    shape = (600, 32, steps)
    if stragglers.shape == "exponential":
        drawn = 0.5 + random.exponential(0.5, shape)
    else:
        sigma = math.sqrt(math.log1p(stragglers.spread**2))
        drawn = np.exp(random.normal(-(sigma**2) / 2, sigma, shape))
        drawn *= np.where(random.random(shape) < stragglers.slow_share, stragglers.slow_factor, 1)
    largest = drawn.sum(axis=-1).max(axis=-1)
    rounds = stragglers.rounds(workers=32, steps=steps)
    error = largest.std() / math.sqrt(len(largest))
    assert rounds.mean == pytest.approx(largest.mean(), abs=4 * error)
    assert rounds.deviation == pytest.approx(largest.std(), rel=0.15)
    assert rounds.own_mean == pytest.approx(drawn.sum(axis=-1).mean(), rel=0.02)


@pytest.mark.parametrize("steps", [2, 16, 256])
def test_the_sum_of_one_worker_has_its_exact_mean(steps: int) -> None:
    rounds = Stragglers(0.3, slow_share=0.1, slow_factor=2.0).rounds(workers=1, steps=steps)
    assert rounds.mean == pytest.approx(1.1 * steps, rel=1e-8)


def test_few_meetings_cost_less_than_many() -> None:
    stragglers = Stragglers(0.3)
    waiting = [stragglers.rounds(workers=64, steps=steps).mean / steps for steps in (1, 4, 16, 64)]
    assert waiting == sorted(waiting, reverse=True)
    assert 1 < waiting[-1] < 1.15


@pytest.mark.parametrize("count", [1.0, 3.5, 200.0])
def test_drawn_sums_have_the_mean_of_their_rounds(count: float) -> None:
    rounds = Stragglers(0.4).rounds(workers=16)
    drawn = rounds.sums(np.random.default_rng(3), (20_000,), count)
    assert drawn.mean() == pytest.approx(count * rounds.mean, rel=0.01)
    if count >= 1 and count == int(count):
        assert drawn.std() == pytest.approx(math.sqrt(count) * rounds.deviation, rel=0.05)


@pytest.mark.parametrize(("spread", "factor"), [(2.5, 1.0), (1e300, 1.0), (0.1, 1e4)])
def test_tails_beyond_the_bins_are_refused(spread: float, factor: float) -> None:
    with pytest.raises(ValueError, match="must be from"):
        Stragglers(spread, slow_factor=factor)


def test_the_mean_of_the_largest_spread_is_1() -> None:
    assert Stragglers(2.0).rounds(workers=1).mean == pytest.approx(1.0, abs=1e-5)
    slow = Stragglers(0.1, slow_share=0.001, slow_factor=1000.0)
    assert slow.rounds(workers=1).mean == pytest.approx(slow.own_mean, rel=1e-5)
