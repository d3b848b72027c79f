"""What losses say about rates: on curves whose places are known."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from tfscale.find.found_rate import found_rate
from tfscale.find.rate_curve import Divergence, smoothed, steepest

RATES = np.geomspace(1e-6, 10, 100).tolist()


def valley(places: np.ndarray) -> np.ndarray:
    """Falls from 2 to 1 around place 50, and rises behind 70."""
    return 1 + 1 / (1 + np.exp((places - 50) / 4)) + np.exp((places - 80) / 4)


def test_minimum_and_steepest_are_found_below_noise() -> None:
    places = np.arange(100)
    losses = valley(places) + np.random.default_rng(0).normal(scale=0.02, size=100)
    found = found_rate(RATES, losses.tolist(), has_diverged=False, is_for_peak=False)
    fine = np.linspace(0, 99, 9901)
    lowest = RATES[0] * (10 / 1e-6) ** (fine[valley(fine).argmin()] / 99)
    assert found.minimum == pytest.approx(lowest, rel=0.5)
    assert found.steepest == pytest.approx(RATES[50], rel=0.5)
    assert found.minimum_tenth == found.minimum / 10


def test_noise_before_the_fall_is_not_the_steepest() -> None:
    means = np.array([2.0, 1.95, 2.0, 2.0, 1.9, 1.5, 1.0, 0.9, 3.0])
    means[1] = 1.4  # falls by 0.6 in one step, and rises again
    assert steepest(np.geomspace(1, 256, 9).tolist(), means) == 5


def test_a_mean_has_gaussian_weights() -> None:
    weights = np.exp([-0.5 * (i / 2) ** 2 for i in range(3)])
    expected = np.dot(weights, [1.0, 5.0, 2.0]) / weights.sum()
    assert smoothed([1.0, 5.0, 2.0], 2.0)[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("losses", "diverges"),
    [
        pytest.param([2.0, 1.0, 0.5, 0.4], False, id="falls"),
        pytest.param([2.0, 2.0, 2.0, 2.5, 1.5], False, id="noise"),
        pytest.param([2.0, 1.0, math.nan], True, id="not a number"),
        pytest.param([2.0, 1.0, math.inf], True, id="infinite"),
        pytest.param([1.0, 1.0, 1.0, 60.0], True, id="rises"),
        pytest.param([-1.0, -5.0, -5.0, -5.2], False, id="below zero"),
        pytest.param([-1.0, -5.0, 80.0, 80.0], True, id="rises from below zero"),
        pytest.param([0.0, 0.0, 0.0], False, id="zero"),
        pytest.param([1.0, 1e-3, 1e-3, 0.1], False, id="a small rise of a small loss"),
    ],
)
def test_divergence_is_seen(losses: list[float], diverges: bool) -> None:
    watch = Divergence()
    assert [watch.after(loss) for loss in losses][-1] is diverges


def test_losses_that_only_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="`lowest` must be a rate at which the loss still falls"):
        found_rate(RATES, np.linspace(1, 2, 100).tolist(), has_diverged=False, is_for_peak=False)


def test_too_few_losses_are_refused() -> None:
    with pytest.raises(ValueError, match="Received: lowest=1e-06 and 3 finite losses"):
        found_rate(RATES, [1.0, 2.0, 3.0], has_diverged=True, is_for_peak=False)


def test_the_picture_has_a_dot_for_each_loss_and_names_the_rates() -> None:
    losses = valley(np.arange(90)).tolist()
    found = found_rate(RATES, losses, has_diverged=True, is_for_peak=True)
    root = ET.fromstring(found.picture())
    space = "{http://www.w3.org/2000/svg}"
    dots = root.findall(f"{space}circle")
    assert len(dots) == 90
    assert all(0 <= float(dot.attrib["cx"]) <= 720 for dot in dots)
    assert all(0 <= float(dot.attrib["cy"]) <= 400 for dot in dots)
    texts = [each.text or "" for each in root.findall(f"{space}text")]
    assert f"suggestion {found.suggestion:.2g}" in texts
    assert f"{found.suggestion:.2g} is suggested (for the peak of the schedule)" in texts[0]


def test_the_text_names_the_rate_and_draws_the_losses() -> None:
    losses = valley(np.arange(90)).tolist()
    lines = str(found_rate(RATES, losses, has_diverged=True, is_for_peak=False)).splitlines()
    assert lines[0].startswith("learning rate: ")
    assert "diverged" in lines[3]
    assert max(map(len, lines)) <= 100
    assert sum(line.count("*") for line in lines) >= 40
