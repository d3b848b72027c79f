"""Reading a damaged checkpoint returns what was written, or reports the damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoint_damage.forgeries import FORGERIES
from tests.checkpoint_damage.trials import DAMAGES, run_trials

SHORT = 440
LONG = 20_000


@pytest.mark.parametrize("trials", [SHORT, pytest.param(LONG, marks=pytest.mark.thorough)])
def test_no_damage_loads_wrong_content_or_raises_what_has_no_name(
    tmp_path: Path, trials: int
) -> None:
    found = run_trials(tmp_path, trials, seed=0)
    assert found.wrong == []
    assert sum(counts.total() for counts in found.outcomes.values()) == trials
    for kind in DAMAGES:  # each kind does damage
        assert found.outcomes[kind]["damaged"] > 0
    assert sum(found.outcomes[kind]["as described"] for kind in FORGERIES) > 0
