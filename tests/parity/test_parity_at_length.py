"""What test_parity shows, of more models and of more ways into them."""

from __future__ import annotations

import pytest

from tests.parity.fixed_cases import CONFIGURATIONS_AT_LENGTH, SCENARIOS_AT_LENGTH, scenario
from tests.parity.trial import Result, require_match, try_cases

pytestmark = pytest.mark.thorough

CASES = {
    **CONFIGURATIONS_AT_LENGTH,
    **{name: scenario(name, "mirrored2") for name in SCENARIOS_AT_LENGTH},
}


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return dict(zip(CASES, try_cases(list(CASES.values()), jobs=3), strict=True))


@pytest.mark.parametrize("sentence", CASES)
def test_replicas_train_what_one_device_trains_where(
    sentence: str, results: dict[str, Result]
) -> None:
    require_match(results[sentence])
