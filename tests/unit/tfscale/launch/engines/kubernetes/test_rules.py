"""The rules accept what the engine writes, and reject mistakes by name."""

from __future__ import annotations

import pytest

from tests.engines.kubernetes.broken_manifests import (
    BROKEN,
    GRACE_SECONDS,
    HEALTHY,
    SCHEMA,
    Broken,
)
from tfscale.launch.engines.kubernetes.rules import RULES, broken_rules, check_manifest


@pytest.mark.parametrize("name", HEALTHY)
def test_what_the_engine_writes_breaks_no_rule(name: str) -> None:
    assert list(broken_rules(HEALTHY[name], GRACE_SECONDS)) == []


@pytest.mark.parametrize(
    "broken", [pytest.param(b, id=b.mistake) for b in BROKEN if b.found_by != SCHEMA]
)
def test_a_mistake_is_rejected_by_its_rule(broken: Broken) -> None:
    found = {name for name, _ in broken_rules(broken.documents(), GRACE_SECONDS)}
    assert broken.found_by in found
    with pytest.raises(ValueError, match=rf"nothing was submitted.*{broken.found_by}: "):
        check_manifest(broken.documents(), GRACE_SECONDS)


def test_every_rule_rejects_a_mistake() -> None:
    assert {broken.found_by for broken in BROKEN} == {*RULES, SCHEMA}
