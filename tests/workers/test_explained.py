"""Two workers explain a model as one device does, and both have all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.workers.job import run_one_device, run_workers

METHODS = ("integrated_gradients", "occlusion", "permutation_importance")


@pytest.mark.thorough
def test_two_workers_explain_as_one_device(tmp_path: Path) -> None:
    workers = run_workers("agreement", tmp_path, "explained")
    expected = run_one_device("agreement", tmp_path, "explained")
    for worker in workers:
        for method in METHODS:
            np.testing.assert_allclose(worker[method], expected[method], rtol=0, atol=1e-9)
