"""Sharded state on two workers: the numbers of one device, half of the slots, and whole files."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from tests.once import made_once
from tests.workers.job import Found, left, run_one_device, run_workers
from tests.workers.sharded_state import STAGES

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def both(folder: Path) -> None:
        run_workers("sharded_state", folder, "all")
        run_one_device("sharded_state", folder, "stock")

    return made_once(tmp_path_factory, "sharded-state", both)


def compare(own: Found, expected: Found) -> None:
    assert len(own) == len(expected)
    for (name, values), wanted in zip(own.items(), expected.values(), strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("stage", STAGES)
def test_two_workers_train_as_one_device(folder: Path, stage: int) -> None:
    expected = left(folder, "stock", 1)[0]
    for worker in left(folder, "all"):
        compare(worker[str(stage)]["state"], expected)


@pytest.mark.parametrize("stage", STAGES)
def test_thirty_steps_of_two_workers_are_those_of_one_device(stage: int, tmp_path: Path) -> None:
    case = f"thirty-steps-{stage}"
    (tmp_path / "stock").mkdir()
    expected = run_one_device("sharded_state", tmp_path / "stock", case)
    for worker in run_workers("sharded_state", tmp_path, case):
        compare(worker, expected)


@pytest.mark.parametrize("stage", STAGES)
def test_the_workers_share_the_slots(folder: Path, stage: int) -> None:
    first, second = (worker[str(stage)]["held"] for worker in left(folder, "all"))
    parameters = 2 * 17 * 4 + (4 + 3 + 1) * 12 + 15 * 4 + 4 + 17 * 2 + 2
    assert first + second == 3 * parameters  # two moments and the average
    assert abs(first - second) <= 3 * (4 + 4 + 4 + 1 + 2 + 1)  # a row of each


@pytest.mark.parametrize("stage", STAGES)
def test_the_chief_saves_the_whole_model(folder: Path, stage: int) -> None:
    loaded = keras.saving.load_model(folder / f"stage-{stage}.keras")
    first = left(folder, "all")[0][str(stage)]["state"]
    expected = list(first.values())[len(loaded.variables) :]
    # Slots only: when training ends, after the file, the averages replace the weights. The rate is
    # made in the float type of this process.
    for slot, values in zip(loaded.optimizer.variables, expected, strict=True):
        if slot.name != "learning_rate":
            np.testing.assert_array_equal(np.ravel(slot.numpy()), values, err_msg=slot.path)
