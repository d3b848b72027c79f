"""N replicas train what one device trains: a fixed part of the sweep, and what it does not reach.

A case that fails repeats by itself: `python -m tests.parity.case "TEXT"`.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity.children import Outcome
from tests.parity.fixed_cases import CONFIGURATIONS, ONCE, OVERFLOW, SCENARIOS, scenario
from tests.parity.trial import Result, require_match, try_cases

PLAYED = [scenario(name, strategy) for strategy in SCENARIOS for name in SCENARIOS[strategy]]


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    cases = [*CONFIGURATIONS.values(), *PLAYED]
    return dict(zip(cases, try_cases(cases, jobs=3), strict=True))


@pytest.mark.parametrize("sentence", CONFIGURATIONS)
def test_replicas_train_what_one_device_trains_where(
    sentence: str, results: dict[str, Result]
) -> None:
    require_match(results[CONFIGURATIONS[sentence]])


@pytest.mark.parametrize("case", [case for case in PLAYED if OVERFLOW not in case])
def test_replicas_do_what_one_device_does_in(case: str, results: dict[str, Result]) -> None:
    require_match(results[case])


@pytest.fixture(scope="module", params=SCENARIOS)
def told(request: pytest.FixtureRequest, results: dict[str, Result]) -> dict[str, Outcome]:
    return {name: results[scenario(name, request.param)].outcome for name in (OVERFLOW, ONCE)}


def test_an_overflow_on_the_last_replica_changes_no_weight_and_halves_the_scale(
    told: dict[str, Outcome],
) -> None:
    outcome = told[OVERFLOW]
    assert outcome.kind == "finished", outcome.detail
    for found in outcome.findings:
        assert not found["more/moved"].any()
        before, after = found["more/scales"]
        assert after == before / 2
        assert (found["more/moved_again"] > 0).all(), "the next good step is taken"
        assert all(np.isfinite(v).all() for k, v in found.items() if k.startswith("weights/"))


def test_after_an_overflow_all_workers_hold_the_same_weights(told: dict[str, Outcome]) -> None:
    outcome = told[OVERFLOW]
    assert outcome.kind == "finished", outcome.detail
    first, *others = outcome.findings
    for other in others:
        assert all(np.array_equal(first[k], other[k]) for k in first if k.startswith("weights/"))


def test_a_generator_trains_each_of_160_examples_exactly_once(told: dict[str, Outcome]) -> None:
    outcome = told[ONCE]
    assert outcome.kind == "finished", outcome.detail
    for found in outcome.findings:
        assert found["more/visits"].tolist() == [1.0] * 160
        assert found["iterations"] == 10
