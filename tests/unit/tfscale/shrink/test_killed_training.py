"""Training that makes a model smaller, is killed and resumed, ends like one that was not."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.programs import completed, forked
from tests.unit.tfscale.shrink.clustering.clustered_by_hand import VALUES, sparse_weights

PROGRAM = Path(__file__).with_name("killed_training.py")
DEADLINE_SECONDS = 480


def run(kind: str, folder: Path, kill_after: int, last: str) -> dict[str, Any]:
    """Trains on two replicas; nothing is left if the process is killed."""
    arguments = [kind, str(folder), "2", str(kill_after), last]
    done = completed(*forked(str(PROGRAM), *arguments), timeout=DEADLINE_SECONDS)
    if kill_after:
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr[-3000:]
        return {}
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / f"{last}.npz") as found:
        return dict(found)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["pruned", "clustered", "rounded"])
def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path: Path, kind: str) -> None:
    """After steps 5 and 9 the last checkpoints are of steps 4 and 8; the lost steps come again."""
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    expected = run(kind, undisturbed, 0, "whole")
    for killed_after in (5, 9):
        folder = tmp_path / str(killed_after)
        folder.mkdir()
        run(kind, folder, killed_after, "killed")
        found = run(kind, folder, 0, "resumed")
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-15, err_msg=name)
    if kind == "pruned":
        kept = np.concatenate([expected["mask/0"].ravel(), expected["mask/1"].ravel()])
        assert expected["steps"] == 16
        assert 0.24 < np.mean(kept) < 0.26
    if kind == "clustered":
        kernel = expected["weight 0"]
        assert len(np.setdiff1d(np.unique(kernel), [0])) <= VALUES
        np.testing.assert_array_equal(kernel == 0, sparse_weights()[0] == 0)
