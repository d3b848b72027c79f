"""Callbacks of two workers have the same paths: only the chief writes, and files are complete."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.workers.conftest import Cases
from tests.workers.job import SOON_SECONDS, Found, left, run_workers


def test_only_the_chief_writes(both: Cases, agreement_folder: Path) -> None:
    both("files")
    written = {path.name for path in agreement_folder.iterdir() if not path.name.startswith("all-")}
    models = {"model.keras", "epoch-1.keras", "epoch-2.keras", "model.weights.h5"}
    assert written - {"given-up", "in-scope", "tensorboard", "callback-order"} == {
        *models,
        "of-worker-0.keras",
        "log.csv",
    }


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_a_saved_file_contains_the_weights_of_every_worker(both: Cases, file: str) -> None:
    first, second = both("files")
    assert first[file] == second[file] == first["weights"] == second["weights"]
    assert first["steps"] == second["steps"] == 2 * 5


def test_the_chief_saves_a_model_whose_fit_was_called_inside_the_scope(both: Cases) -> None:
    first, second = both("saved_in_scope")
    assert first["model.keras"] == second["model.keras"] == first["weights"] == second["weights"]


def test_the_log_has_one_row_an_epoch(both: Cases, agreement_folder: Path) -> None:
    losses = [worker["loss"] for worker in both("files")]
    assert losses[0] == losses[1]
    header, *rows = (agreement_folder / "log.csv").read_text("utf-8").splitlines()
    assert header == "epoch,loss,val_loss"
    assert [row.split(",")[0] for row in rows] == ["0", "1"]
    assert [float(row.split(",")[1]) for row in rows] == losses[0]


@pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="needs tensorboard")
def test_tensorboard_has_one_event_file(both: Cases, agreement_folder: Path) -> None:
    both("files")
    events = list((agreement_folder / "tensorboard" / "train").glob("events.out.tfevents.*.v2"))
    assert len(events) == 1


@pytest.fixture(scope="module")
def crashed(failed: Callable[[str], list[Found]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job with backups in which one worker failed in the third epoch."""
    folder = tmp_path_factory.mktemp("crashed")
    waiting, failing = run_workers("failing", folder, "in_mid_epoch")
    assert (failing["kind"], failing["error"]) == ("OSError", "the disk is full")
    assert "worker 1 failed with OSError: the disk is full" in waiting["error"]
    assert waiting["at"] - failing["at"] < SOON_SECONDS
    return folder


def test_a_job_that_failed_in_mid_epoch_resumes_on_both_workers(
    crashed: Path, one_device: Found
) -> None:
    assert (crashed / "backup").exists()
    run_workers("failing", crashed, "resumed")
    wanted = one_device["backed_up"]
    assert wanted["epochs"] == [0, 1, 2, 3]
    for index in range(2):
        found = left(crashed, "resumed-training")[index]
        assert found["epochs"] == [2, 3]
        assert found["steps"] == wanted["steps"] == 4 * 5
        np.testing.assert_allclose(found["weights"], wanted["weights"], rtol=1e-12)
    assert not (crashed / "backup").exists()
