"""Training on N replicas matches one device: a fixed part of the sweep, and scenarios.

A failed case can be repeated: `python -m tests.parity.case "TEXT"`.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity.children import Outcome
from tests.parity.fixed_cases import (
    CONFIGURATIONS,
    CONFIGURATIONS_AT_LENGTH,
    ONCE,
    OVERFLOW,
    SCENARIOS,
    SCENARIOS_AT_LENGTH,
    scenario,
)
from tests.parity.trial import Result, require_match, try_cases


def played(scenarios: dict[str, tuple[str, ...]]) -> list[str]:
    return [scenario(name, strategy) for strategy, names in scenarios.items() for name in names]


PLAYED = played(SCENARIOS)
THOROUGH = {
    **CONFIGURATIONS_AT_LENGTH,
    **{case: case for case in played(SCENARIOS_AT_LENGTH)},
}


def tried(cases: list[str]) -> dict[str, Result]:
    return dict(zip(cases, try_cases(cases, jobs=3), strict=True))


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return tried([*CONFIGURATIONS.values(), *PLAYED])


@pytest.fixture(scope="module")
def thorough_results() -> dict[str, Result]:
    return tried([*THOROUGH.values()])


@pytest.mark.parametrize("sentence", CONFIGURATIONS)
def test_replicas_match_one_device_where(sentence: str, results: dict[str, Result]) -> None:
    require_match(results[CONFIGURATIONS[sentence]])


@pytest.mark.thorough
@pytest.mark.parametrize("sentence", THOROUGH)
def test_replicas_match_one_device_at_length_where(
    sentence: str, thorough_results: dict[str, Result]
) -> None:
    require_match(thorough_results[THOROUGH[sentence]])


@pytest.mark.parametrize("case", [case for case in PLAYED if OVERFLOW not in case])
def test_replicas_match_one_device_in(case: str, results: dict[str, Result]) -> None:
    require_match(results[case])


@pytest.fixture(scope="module", params=SCENARIOS)
def outcomes(request: pytest.FixtureRequest, results: dict[str, Result]) -> dict[str, Outcome]:
    return {name: results[scenario(name, request.param)].outcome for name in (OVERFLOW, ONCE)}


def test_an_overflow_on_the_last_replica_changes_no_weight_and_halves_the_scale(
    outcomes: dict[str, Outcome],
) -> None:
    outcome = outcomes[OVERFLOW]
    assert outcome.kind == "finished", outcome.detail
    for found in outcome.findings:
        assert not found["more/moved"].any()
        before, after = found["more/scales"]
        assert after == before / 2
        assert (found["more/moved_again"] > 0).all(), "the next good step is taken"
        assert all(np.isfinite(v).all() for k, v in found.items() if k.startswith("weights/"))


def test_after_an_overflow_all_workers_have_the_same_weights(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[OVERFLOW]
    assert outcome.kind == "finished", outcome.detail
    first, *others = outcome.findings
    for other in others:
        assert all(np.array_equal(first[k], other[k]) for k in first if k.startswith("weights/"))


def test_a_generator_trains_each_of_160_examples_exactly_once(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[ONCE]
    assert outcome.kind == "finished", outcome.detail
    for found in outcome.findings:
        assert found["more/visits"].tolist() == [1.0] * 160
        assert found["iterations"] == 10
