"""The fitted law against times from a known law, and against the conditions of a minimum."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tfscale.bench.cost_law import (
    TERMS,
    CostLaw,
    Setup,
    fitted,
    non_negative_least_squares,
    residuals,
)

SIZES = (1e4, 1e5, 1e6, 1e7, 1e8)
SETUPS = [
    *(Setup(size) for size in SIZES),
    *(Setup(size, replicas=r) for size, r in itertools.product(SIZES[:4], (2, 4, 8))),
    *(Setup(size, workers=w) for size, w in itertools.product(SIZES[:4], (2, 3, 4))),
]
# Milliseconds: 0.4 of a call, 1e-3 of activations, 5 ns a parameter, and so on.
KNOWN = {"a": 0.4, "b": 1e-3, "c": 5e-6, "d": 0.3, "e": 4e-6, "f": 1.5, "g": 2e-5}


def times(coefficients: dict[str, float], setups: list[Setup] = SETUPS) -> dict[Setup, float]:
    """Written out, so that the code's own formula is not the oracle."""
    k = {name: coefficients.get(name, 0.0) for name in TERMS}
    return {
        s: k["a"]
        + k["b"] * s.parameters**0.5
        + k["c"] * s.parameters
        + (k["d"] + k["e"] * s.parameters) * (s.replicas - 1)
        + (k["f"] + k["g"] * s.parameters) * (s.workers - 1)
        for s in setups
    }


def test_a_known_law_is_found_from_exact_times() -> None:
    law = fitted(times(KNOWN))
    assert law.coefficients == pytest.approx(KNOWN, rel=1e-6)
    assert residuals(law, times(KNOWN)) == pytest.approx([0.0] * len(SETUPS), abs=1e-9)


@pytest.mark.parametrize("name", TERMS[1:])
def test_a_term_that_costs_nothing_is_found_to_be_0(name: str) -> None:
    without = {**KNOWN, name: 0.0}
    coefficients = fitted(times(without)).coefficients
    assert coefficients[name] == pytest.approx(0.0, abs=1e-6 * KNOWN[name])
    assert {**coefficients, name: 0.0} == pytest.approx(without, rel=1e-6)


def test_errors_of_five_percent_give_a_law_that_predicts_as_well() -> None:
    draw = np.random.default_rng(0)
    exact = times(KNOWN)
    law = fitted({setup: t * (1 + 0.05 * draw.standard_normal()) for setup, t in exact.items()})
    assert np.abs(residuals(law, exact)).max() < 0.1
    assert law.coefficients["c"] == pytest.approx(KNOWN["c"], rel=0.15)
    assert law.coefficients["g"] == pytest.approx(KNOWN["g"], rel=0.15)


def test_small_times_count_as_much_as_large_ones() -> None:
    # 1e4 takes 0.55 ms and 1e8 takes 510 ms. An error of 5 % of the largest is 50 of the smallest.
    wrong = {
        setup: t * (1.05 if setup.parameters == 1e8 else 1) for setup, t in times(KNOWN).items()
    }
    law = fitted(wrong)
    assert abs(law.time(Setup(1e4)) / wrong[Setup(1e4)] - 1) < 0.01


def test_terms_without_data_are_left_out() -> None:
    sizes = [Setup(size) for size in SIZES]
    law = fitted(times(KNOWN, sizes))
    assert law.coefficients == pytest.approx({"a": 0.4, "b": 1e-3, "c": 5e-6}, rel=1e-6)
    assert str(law) == "t = 0.4 + 0.001 sqrt(P) + 5e-06 P"


@pytest.mark.parametrize(
    "setups",
    [
        [Setup(1e4), Setup(1e5)],
        # Of one size, a worker's latency and its cost a parameter cannot be told apart.
        [Setup(1e4), Setup(1e5), Setup(1e6), Setup(1e6, workers=2), Setup(1e6, workers=3)],
    ],
)
def test_times_that_do_not_determine_the_terms_are_refused(setups: list[Setup]) -> None:
    with pytest.raises(ValueError, match=r"`times` must determine [35] terms\. Received: [25] set"):
        fitted(times(KNOWN, setups))


@pytest.mark.parametrize("seed", range(50))
def test_the_result_fulfils_the_conditions_of_a_minimum(seed: int) -> None:
    # Karush, Kuhn and Tucker: x >= 0, the gradient g = A'(Ax - b) >= 0, and x g = 0.
    draw = np.random.default_rng(seed)
    # Columns that are alike, so that some coefficients are positive first and 0 at the end.
    matrix = draw.uniform(0, 1, (12, 3)) @ draw.uniform(-1, 1, (3, 6))
    matrix = (matrix + 0.1 * draw.standard_normal((12, 6))) * 10.0 ** draw.integers(-4, 4, 6)
    target = draw.standard_normal(12)
    x = non_negative_least_squares(matrix, target)
    scale = np.linalg.norm(matrix, axis=0)
    gradient = matrix.T @ (matrix @ x - target) / scale
    assert (x >= 0).all()
    assert (gradient > -1e-9).all()
    assert np.abs(x * scale * gradient).max() < 1e-9


def test_a_law_with_no_terms_is_0() -> None:
    assert str(CostLaw({})) == "t = 0"
    assert CostLaw({}).time(Setup(1e6, 2, 2)) == 0.0
