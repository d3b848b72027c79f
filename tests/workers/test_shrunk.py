"""On two workers, training that makes models smaller is that of one device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.tfscale.shrink.clustering import clustered_by_hand
from tests.unit.tfscale.shrink.pruning.pruned_by_hand import ByHand
from tests.workers.conftest import Cases
from tests.workers.job import run_one_device, run_workers


def test_two_workers_prune_as_numpy_does(both: Cases) -> None:
    expected = ByHand(momentum=0.5, is_global=True, moves=True).train()
    for worker in both("pruned"):
        for mask, wanted in zip(worker["masks"], expected.masks.values(), strict=True):
            assert mask == np.ravel(wanted).tolist()
        for weight, wanted in zip(worker["weights"], expected.weights, strict=True):
            np.testing.assert_allclose(weight, np.ravel(wanted), rtol=1e-9, atol=1e-12)


def test_two_workers_cluster_as_numpy_does(both: Cases) -> None:
    """At the end of `fit` the weights become their moving averages, as Keras does it."""
    expected = clustered_by_hand.ByHand(momentum=0.5, average=0.75).averages
    for worker in both("clustered"):
        for name in ("weights", "averages"):
            for found, wanted in zip(worker[name], expected, strict=True):
                np.testing.assert_allclose(found, np.ravel(wanted), rtol=1e-9, atol=1e-12)
        for found, kernel in zip(worker["values"], expected[::2], strict=True):
            values = np.setdiff1d(np.unique(kernel), [0])
            np.testing.assert_allclose(found, values, rtol=1e-9, atol=1e-12)


def test_variables_of_small_numbers_begin_with_the_values_of_the_chief(both: Cases) -> None:
    for worker in both("small_numbers"):
        assert len(worker) == 16
        assert all(value == [1, 100] for value in worker.values())


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("case", "of_interest"), [("rounded", "average"), ("distilled", "distillation_loss")]
)
def test_two_workers_round_and_distil_as_one_device(
    case: str, of_interest: str, tmp_path: Path
) -> None:
    workers = run_workers("agreement", tmp_path, case)
    expected = run_one_device("agreement", tmp_path, case)
    assert any(of_interest in name for name in expected)
    for worker in workers:
        assert worker.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(worker[name], values, 1e-9, 1e-12, err_msg=name)


@pytest.mark.thorough
def test_two_workers_train_adapters_on_integers_as_one_device(tmp_path: Path) -> None:
    workers = run_workers("agreement", tmp_path, "adapted")
    expected = run_one_device("agreement", tmp_path, "adapted")
    for worker in workers:
        assert worker.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(worker[name], values, 1e-5, 1e-6, err_msg=name)
