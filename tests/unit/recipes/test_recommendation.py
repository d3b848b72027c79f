"""The recommendation recipe: what it learns, on one device and on replicas, and its output
files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.programs import completed
from tests.unit.recipes.conftest import Run
from tfscale.report.directory import read_directory

MODULE = "recipes.recommendation"
PLACES = {
    "one device": ["--distribution_strategy=one_device", "--num_shards=1"],
    "mirrored": ["--distribution_strategy=mirrored", "--num_replicas=2", "--num_shards=3"],
}
SIZE = ["--num_users=60", "--num_items=40", "--num_rows=15000", "--k=5", "--embedding_dim=4"]
FLAGS = [*SIZE, "--global_batch_size=300", "--train_epochs=5", "--precision=float64"]


@pytest.fixture(scope="module")
def summaries(
    run_recipe: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    found = {}
    for place, where in PLACES.items():
        folder = tmp_path_factory.mktemp("run")
        run = run_recipe(*where, *FLAGS, f"--model_dir={folder}", module=MODULE)
        assert run.status == 0, run.stderr
        assert run.complaints == []
        summary = json.loads((folder / "summary.json").read_text("utf-8"))
        found[place] = {**summary, "stdout": run.stdout, "folder": folder}
    return found


def test_replicas_and_shards_match_single_device_results(summaries: dict[str, Any]) -> None:
    one, other = summaries.values()
    for name in ("test_loss", "auc", "ndcg_at_5", "recall_at_5"):
        assert other[name] == pytest.approx(one[name], abs=1e-9)
    assert other["history"]["loss"] == pytest.approx(one["history"]["loss"], abs=1e-9)


@pytest.mark.thorough
def test_two_workers_that_share_the_weights_give_the_same_results(
    summaries: dict[str, Any], tmp_path: Path
) -> None:
    flags = ["--distribution_strategy=multi_worker_mirrored", "--shard=3", *FLAGS]
    recipe = [sys.executable, "-m", MODULE, *flags, f"--model_dir={tmp_path}"]
    done = completed("-m", "tfscale", "launch", "--num_workers=2", "--", *recipe, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    for name in ("test_loss", "auc", "ndcg_at_5", "recall_at_5"):
        assert found[name] == pytest.approx(summaries["one device"][name], abs=1e-9)


def test_it_ranks_nearly_as_well_as_the_scores_behind_the_clicks(
    summaries: dict[str, Any],
) -> None:
    found, best = summaries["mirrored"], summaries["mirrored"]["best"]
    assert best["ndcg_at_5"] == best["recall_at_5"] == 1.0
    # At random NDCG is about 0.6 here, recall 5 / 40 and AUC 1 / 2.
    assert found["ndcg_at_5"] > 0.95
    assert found["recall_at_5"] > 0.5
    assert best["auc"] - 0.05 < found["auc"] < best["auc"]
    assert best["test_loss"] < found["test_loss"] < 1.15 * best["test_loss"]


def test_it_writes_a_model_and_a_record_and_prints_their_paths(summaries: dict[str, Any]) -> None:
    found = summaries["mirrored"]
    folder: Path = found["folder"]
    names = {path.name for path in folder.iterdir()}
    assert {"model.keras", "report.html", "run.json", "summary.json", "metrics.csv"} <= names
    record = read_directory(folder)
    assert record.results["auc"] == found["auc"]
    assert record.results["best_auc"] == found["best"]["auc"]
    assert f"report: {folder}/report.html" in found["stdout"]


@pytest.mark.thorough  # `make test` interrupts the recipe of images
def test_an_interrupted_run_resumes_and_a_finished_one_starts_over(
    run_recipe: Callable[..., Run], tmp_path: Path
) -> None:
    flags = [*PLACES["one device"], *FLAGS, "--num_rows=3000", "--train_epochs=2"]
    flags += ["--checkpoint_every=epoch", f"--model_dir={tmp_path}"]
    cut_off = "tests.unit.recipes.cut_off"
    assert run_recipe(*flags, module=cut_off, RECIPE=MODULE).status == -9
    resumed = run_recipe(*flags, module=MODULE)
    assert resumed.status == 0, resumed.stderr
    assert "checkpoints after 2 of 2 epochs." in resumed.stderr
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert len(summary["history"]["loss"]) == 2
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--k=41", "`--k` must be at most the number of items, 40"),
        ("--num_shards=61", "`num_shards` must be at most `input_dim`=60"),
        ("--dataset=digits", "`--dataset` must be a set of ratings"),
    ],
)
def test_impossible_flags_are_refused_in_one_line(
    run_recipe: Callable[..., Run], flag: str, words: str, tmp_path: Path
) -> None:
    where = "--distribution_strategy=one_device"
    run = run_recipe(where, *FLAGS, flag, f"--model_dir={tmp_path}", module=MODULE)
    assert (run.status, len(run.complaints)) == (2, 1), run.stderr
    assert words in run.complaints[0]
