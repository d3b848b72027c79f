"""On two workers, a step or a metric that needs the whole batch matches one device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.strategies.keras_support.beside_one_device import Y
from tests.workers.conftest import Cases
from tests.workers.job import Found, run_one_device, run_workers


@pytest.mark.parametrize("step", ["Detector", "Contrastive", "OwnRows", "Centred"])
def test_a_step_over_the_whole_batch_matches_one_device(
    both: Cases, one_device: Found, step: str
) -> None:
    expected = one_device["own_steps"][step]
    for worker in both("own_steps"):
        assert worker[step].keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(worker[step][name], values, 1e-9, 1e-12, err_msg=name)


def test_a_maximum_is_taken_over_all_examples(both: Cases) -> None:
    largest = {"trained": [np.max(-np.abs(Y))], "evaluated": np.max(-np.abs(Y[:5]))}
    assert both("own_metric") == [largest] * 2


def test_gradients_in_several_packs_match_one_device(both: Cases, one_device: Found) -> None:
    expected = one_device["small_packs"]["weights"]
    for worker in both("small_packs"):
        for own, wanted in zip(worker["weights"], expected, strict=True):
            np.testing.assert_allclose(own, wanted, 1e-5, 1e-6)  # a layer is of float32


@pytest.mark.thorough
def test_recomputed_layers_match_one_device_that_keeps_them(tmp_path: Path) -> None:
    workers = run_workers("agreement", tmp_path, "recomputed")
    expected = run_one_device("agreement", tmp_path, "recomputed")
    for model in ("transformer", "convolutions"):
        for worker in workers:
            for own, kept in zip(worker[model], expected[model], strict=True):
                np.testing.assert_allclose(own, kept, 1e-9, 1e-12)
