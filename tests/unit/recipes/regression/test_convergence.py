"""The bounds against steps in NumPy: never exceeded, and tight where that is possible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recipes.regression.convergence import Landscape

Array = np.ndarray[Any, Any]

RANDOM = np.random.default_rng(11)
INPUTS: Array = RANDOM.uniform(-1, 1, size=(400, 3)) * [1.0, 0.6, 0.4]
TARGETS: Array = INPUTS @ [0.5, -1.0, 0.7] + RANDOM.uniform(-0.3, 0.3, size=400)
SOLUTION: Array = np.linalg.lstsq(INPUTS, TARGETS)[0]
CURVATURES: Array = np.linalg.eigvalsh(2 * INPUTS.T @ INPUTS / 400)
LANDSCAPE = Landscape(
    smallest=float(CURVATURES[0]),
    largest=float(CURVATURES[-1]),
    largest_square=float(np.max(np.sum(INPUTS**2, axis=1))),
    loss=float(np.mean((INPUTS @ SOLUTION - TARGETS) ** 2)),
)


def test_gradient_descent_stays_within_its_bound_and_reaches_it_in_the_worst_direction() -> None:
    _, directions = np.linalg.eigh(INPUTS.T @ INPUTS)
    for start, is_worst in ((directions[:, 0], True), (directions[:, 2], True), (SOLUTION, False)):
        apart = start / np.linalg.norm(start)
        for steps in range(1, 30):
            gradient = 2 * INPUTS.T @ (INPUTS @ apart) / 400
            apart = apart - LANDSCAPE.descent_rate * gradient
            bound = LANDSCAPE.descent_distance(steps)
            assert np.linalg.norm(apart) <= bound * (1 + 1e-9)
            assert not is_worst or np.linalg.norm(apart) == pytest.approx(bound, rel=1e-9)


@pytest.mark.parametrize(("rows", "steps"), [(1, 400), (10, 20), (10, 400), (100, 400)])
def test_the_mean_square_over_many_runs_stays_within_its_bound(rows: int, steps: int) -> None:
    first, decay = LANDSCAPE.stochastic_rate(rows)
    random = np.random.default_rng(rows)
    weights = np.zeros((50, 3))
    for step in range(steps):
        drawn = random.integers(400, size=(50, rows))
        x, y = INPUTS[drawn], TARGETS[drawn]
        wrong = np.einsum("krf,kf->kr", x, weights) - y
        rate = first / (1 + decay * step)
        weights = weights - rate * 2 * np.einsum("krf,kr->kf", x, wrong) / rows
    found = float(np.sqrt(np.mean(np.sum((weights - SOLUTION) ** 2, axis=1))))
    bound = LANDSCAPE.stochastic_distance(
        float(np.linalg.norm(SOLUTION)), rows, lambda step: first / (1 + decay * step), steps
    )
    assert 0.05 * bound < found < bound


def test_the_bound_is_the_recursion_worked_by_hand() -> None:
    landscape = Landscape(smallest=1.0, largest=2.0, largest_square=0.5, loss=0.25)
    # 4 x 0.5 / 1 = 2 beside the curvature of 2; noise 8 x 0.5 x 0.25 / 1 = 1.
    assert landscape.stochastic_rate(1) == (0.25, 0.125)
    # 3/4 x 4 + 1/16 = 49/16, and so on with half the rate.
    after_one, after_two = 49 / 16, 7 / 8 * 49 / 16 + 1 / 64
    rates = [0.25, 0.125]
    for steps, square in ((0, 4.0), (1, after_one), (2, after_two)):
        found = landscape.stochastic_distance(2.0, 1, rates.__getitem__, steps)
        assert found == pytest.approx(square**0.5, rel=1e-15)
