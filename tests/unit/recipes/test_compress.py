"""The recipe that compresses the model of a finished run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.unit.recipes.conftest import Run

MODULE = "recipes.compress"
TWO = ["--distribution_strategy=mirrored", "--num_replicas=2"]


@pytest.fixture(scope="module")
def digits(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run of a network that was trained for three epochs."""
    folder = tmp_path_factory.mktemp("digits")
    given = ["--dataset=digits", f"--data_dir={data_dir}", "--train_epochs=3", *TWO]
    run = run_recipe(*given, f"--model_dir={folder}")
    assert run.status == 0, run.stderr
    return folder


def compressed(run_recipe: Callable[..., Run], folder: Path, *given: str) -> Run:
    return run_recipe(f"--run={folder}", "--stage_epochs=1", *given, module=MODULE)


@pytest.mark.thorough  # the page on chains runs one by flags
def test_a_chain_by_flags(run_recipe: Callable[..., Run], digits: Path) -> None:
    given = ["--sparsity=0.8", "--clusters=16", "--quantize=aware"]
    run = compressed(run_recipe, digits, *given)
    assert run.status == 0, run.stderr
    lines = run.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        *("before", "80 % zeros", "16 values", "quantized (aware)"),
    ]
    output = digits / "compressed"
    summary = json.loads((output / "summary.json").read_text("utf-8"))
    content = (output / "model.tflite").read_bytes()
    assert summary["size_bytes"] == len(content)
    assert content[4:8] == b"TFL3"
    assert summary["times_smaller"] > 8
    assert summary["zeros"] == pytest.approx(0.8, abs=1e-4)
    assert [stage["name"] for stage in summary["stages"]] == [
        *("float", "prune", "cluster", "quantize"),
    ]
    trained = json.loads((digits / "summary.json").read_text("utf-8"))
    assert summary["accuracy_before"] == pytest.approx(trained["test_accuracy"], abs=1e-6)
    assert summary["flags"]["num_replicas"] == 2
    page = (output / "trade_off.html").read_text("utf-8")
    assert "accuracy by size of the file" in page
    # What was compressed is not compressed again.
    again = run_recipe(f"--run={output}", "--sparsity=0.5", module=MODULE)
    assert again.status == 2
    assert "`--run` must be" in again.stderr


@pytest.mark.thorough
def test_a_search_for_a_size(run_recipe: Callable[..., Run], digits: Path, tmp_path: Path) -> None:
    given = ["--target_size=60000", "--json", f"--output={tmp_path}"]
    run = compressed(run_recipe, digits, *given)
    assert run.status == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["gzip_bytes"] <= 60_000
    assert Path(found["file"]).stat().st_size == found["size_bytes"]
    assert "accuracy of the half of the test data to choose with:" in run.stderr
    trained = json.loads((digits / "summary.json").read_text("utf-8"))
    # One half chooses, and the other half measures.
    halves = (found["accuracy_before"], found["stages"][0]["metrics"]["accuracy"])
    assert np.mean(halves) == pytest.approx(trained["test_accuracy"], abs=1e-6)
    assert halves[0] != halves[1]


@pytest.mark.thorough
def test_a_search_that_finds_none_says_so(
    run_recipe: Callable[..., Run], digits: Path, tmp_path: Path
) -> None:
    run = compressed(run_recipe, digits, "--target_size=100", f"--output={tmp_path}")
    assert run.status == 1
    assert "No chain meets --target_size=100" in run.stderr


@pytest.mark.thorough
def test_a_float_chain_keeps_a_model_for_keras(
    run_recipe: Callable[..., Run], digits: Path, tmp_path: Path
) -> None:
    given = ["--channels=0.5", "--file_format=keras", f"--output={tmp_path}"]
    run = compressed(run_recipe, digits, *given, "--flags=--distribution_strategy=one_device")
    assert run.status == 2  # the number of replicas is that of the run
    assert "--num_replicas" in run.stderr
    run = compressed(run_recipe, digits, *given)
    assert run.status == 0, run.stderr
    model = keras.models.load_model(tmp_path / "model.keras")
    assert model.count_params() < 99178 / 2.5
    assert model.predict(np.zeros([1, 8, 8, 1]), verbose=0).shape == (1, 10)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("module", "given", "chain", "metric"),
    [
        pytest.param(
            "recipes.language_model",
            [
                *("--size=tiny", "--train_steps=20", "--warmup_steps=0", "--context=32"),
                *("--steps_per_validation=10", "--validation_bytes=4096"),
            ],
            ["--pattern=2:4", "--quantize=int8"],
            "bits_per_byte",
            id="language",
        ),
        pytest.param(
            "recipes.recommendation",
            ["--num_users=900", "--num_items=600", "--num_rows=4000", "--train_epochs=1"],
            ["--quantize=int8"],
            "loss",
            id="ratings",
        ),
    ],
)
def test_runs_of_other_recipes(
    run_recipe: Callable[..., Run],
    tmp_path: Path,
    module: str,
    given: list[str],
    chain: list[str],
    metric: str,
) -> None:
    run = run_recipe(*given, f"--model_dir={tmp_path}", module=module)
    assert run.status == 0, run.stderr
    run = compressed(run_recipe, tmp_path, *chain)
    assert run.status == 0, run.stderr
    summary = json.loads((tmp_path / "compressed" / "summary.json").read_text("utf-8"))
    assert summary["times_smaller"] > 1.2
    assert np.isfinite(summary[f"{metric}_after"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "`--run` must be the --model_dir of a finished run. Received: none"),
        (["--run=nowhere", "--sparsity=0.5"], "`--run` must be .*Received: --run=nowhere"),
        (["--run=nowhere"], "A chain must have a stage at least"),
        (["--run=nowhere", "--sparsity=1.5"], "sparsity"),
        (
            ["--run=nowhere", "--max_accuracy_loss=0.1", "--clusters=4"],
            "`--clusters` must not be set with --target_size or --max_accuracy_loss",
        ),
    ],
    ids=["none", "nowhere", "nothing", "range", "both"],
)
def test_wrong_usage_is_refused(
    run_recipe: Callable[..., Run], given: list[str], message: str
) -> None:
    run = run_recipe(*given, module=MODULE)
    assert run.status == 2
    assert re.search(message, run.stderr), run.stderr


def test_wrong_flags_of_the_run_are_refused(run_recipe: Callable[..., Run], digits: Path) -> None:
    run = compressed(run_recipe, digits, "--sparsity=0.5", "--flags=--no_such_flag=1")
    assert run.status == 2
    assert "`--flags` must be flags of recipes.image_classification" in run.stderr


def broken(folder: Path, **changes: Any) -> None:
    for name, content in changes.items():
        (folder / f"{name}.json").write_text(content)


def test_a_folder_of_something_else_is_refused(
    run_recipe: Callable[..., Run], tmp_path: Path
) -> None:
    broken(tmp_path, run="{", summary="{}")
    run = run_recipe(f"--run={tmp_path}", "--sparsity=0.5", module=MODULE)
    assert run.status == 2
    assert "`--run` must be the --model_dir of a finished recipe" in run.stderr
    broken(tmp_path, run='{"command": "python -m recipes.linear_regression"}')
    broken(tmp_path, summary='{"flags": {}}')
    run = run_recipe(f"--run={tmp_path}", "--sparsity=0.5", module=MODULE)
    assert run.status == 2
    assert "`--run` must be a folder with model.keras" in run.stderr
