"""Ray Train with `import tfscale.ray_train`, on a real Ray."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.ray.training import EPOCHS
from tests.programs import ROOT

pytestmark = pytest.mark.engines

PYTHON = ROOT / ".venv-engines" / "bin" / "python"


def trained(folder: Path, *what: str) -> dict[str, Any]:
    """Runs trainer.py and returns what it printed."""
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    # A worker imports TensorFlow, for which Ray gives it 30 s.
    patience = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600"}
    ray = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [str(PYTHON), "-m", "tests.engines.ray.trainer", str(folder), *what],
        cwd=ROOT,
        env={**kept, **patience, **ray, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith('{"metrics"'))
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_a_lost_worker_is_replaced_and_the_result_is_the_undisturbed_one(tmp_path: Path) -> None:
    if not PYTHON.with_name("ray").exists():
        pytest.skip("Ray is not installed: make engines")
    undisturbed = trained(tmp_path / "undisturbed")
    disturbed = trained(tmp_path / "disturbed", "lost-worker")
    assert (tmp_path / "disturbed" / "disturbed").exists()
    assert undisturbed["metrics"]["epoch"] == disturbed["metrics"]["epoch"] == EPOCHS - 1
    assert disturbed["metrics"]["loss"] == pytest.approx(undisturbed["metrics"]["loss"], rel=1e-9)
    assert undisturbed["checkpoint"]
    expected, found = (np.load(tmp_path / n / "weights.npy") for n in ("undisturbed", "disturbed"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
