"""A chain that was killed goes on after its last finished stage."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.programs import completed

PROGRAM = "tests.unit.tfscale.shrink.chain.killed_chain"


def ran(folder: Path, kill: str) -> Any:
    return completed("-m", PROGRAM, str(folder), kill, timeout=180)


@pytest.mark.thorough
def test_a_killed_chain_goes_on_after_its_last_stage(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    undisturbed = ran(one, "no")
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed = ran(other, "kill")
    assert killed.returncode == -signal.SIGKILL
    stages = other / "stages"
    assert sorted(path.name for path in stages.iterdir()) == [
        *("chain.json", "prune.json", "prune.keras"),
    ]
    # Of another chain.
    chain = stages / "chain.json"
    stored = chain.read_text()
    chain.write_text(json.dumps({**json.loads(stored), "learning_rate": 0.5}))
    refused = ran(other, "no")
    assert refused.returncode == 1
    assert re.search("`stages_dir` must be new.*of another learning rate", refused.stderr)
    # Cut off.
    chain.write_text(stored[:-9])
    refused = ran(other, "no")
    assert re.search("`stages_dir` must have whole files", refused.stderr)
    chain.write_text(stored)
    resumed = ran(other, "no")
    assert resumed.returncode == 0, resumed.stderr
    assert "50 % zeros ..." not in resumed.stderr
    assert "4 values ..." in resumed.stderr
    with np.load(one / "result.npz") as wanted, np.load(other / "result.npz") as found:
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name])
