"""Every optimizer of the recipe reaches the solution, on any number of replicas."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from recipes.regression.problem import LinearProblem
from tests.programs import completed
from tests.unit.recipes.conftest import Run, is_start_up

MODULE = "recipes.linear_regression"
PLACES = {
    "one_device": ["--distribution_strategy=one_device"],
    "mirrored 2": ["--distribution_strategy=mirrored", "--num_replicas=2"],
    "mirrored 3": ["--distribution_strategy=mirrored", "--num_replicas=3"],
}
SIZE = ["--num_rows=960", "--num_features=6", "--train_epochs=20", "--seed=3"]
NAMES = ["gradient_descent", "sgd", "adam", "averaged"]
# Three replicas only show that averaging every step is SGD.
TRAINED = {"one_device": NAMES, "mirrored 2": NAMES, "mirrored 3": ["sgd", "averaged"]}


@pytest.fixture(scope="module")
def summaries(
    run_recipe: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Runs in each place. "averaged" takes means every four steps; on three replicas, every step.

    Returns the summary of each, with the output.
    """
    found = {}
    for place, where in PLACES.items():
        folder = tmp_path_factory.mktemp("run")
        every = 1 if place == "mirrored 3" else 4
        flags = [*where, *SIZE, f"--average_every={every}", f"--model_dir={folder}"]
        flags.append(f"--optimizers={','.join(TRAINED[place])}")
        run = run_recipe(*flags, module=MODULE)
        assert run.status == 0, run.stderr
        assert run.complaints == []
        found[place] = {
            **json.loads((folder / "summary.json").read_text("utf-8")),
            "stdout": run.stdout,
            "folder": folder,
        }
    return found


@pytest.fixture(scope="module")
def matrix() -> tuple[Any, Any]:
    """All rows of the problem at once."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    problem = LinearProblem(num_rows=960, num_features=6, condition=10.0, noise=0.1, seed=3)
    chunks = list(problem.chunks())
    keras.config.set_floatx(before)
    inputs, targets = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    return inputs, targets[:, 0]


@pytest.mark.parametrize("place", PLACES)
def test_every_optimizer_reaches_the_solution_within_its_tolerance(
    summaries: dict[str, Any], matrix: tuple[Any, Any], place: str
) -> None:
    inputs, targets = matrix
    wanted = np.linalg.lstsq(inputs, targets)[0]
    least = np.mean((inputs @ wanted - targets) ** 2)
    summary = summaries[place]
    np.testing.assert_allclose(summary["least_squares"]["coefficients"], wanted, rtol=1e-11)
    assert list(summary["optimizers"]) == TRAINED[place]
    for name, record in summary["optimizers"].items():
        found = np.array(record["coefficients"])
        distance = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert record["distance"] == pytest.approx(distance, rel=1e-6)
        assert record["tolerance"] < 0.2, name  # it starts from 1
        assert distance <= record["tolerance"], name
        # Better than the bound: closer than the error that noise causes in the solution itself.
        assert distance < summary["least_squares"]["distance_of_true_coefficients"], name
        gap = np.mean((inputs @ found - targets) ** 2) - least
        assert record["loss_gap"] == pytest.approx(gap, rel=1e-6, abs=1e-15)
        assert len(record["distances"]) == 21
        assert record["distances"][0] == 1
        assert record["steps"] == (20 if name == "gradient_descent" else 200)


def test_gradient_descent_takes_exactly_the_steps_of_the_whole_matrix(
    summaries: dict[str, Any], matrix: tuple[Any, Any]
) -> None:
    inputs, targets = matrix
    curvatures = np.linalg.eigvalsh(2 * inputs.T @ inputs / 960)
    weights = np.zeros(6)
    for _ in range(20):
        gradient = 2 * inputs.T @ (inputs @ weights - targets) / 960
        weights = weights - 2 / (curvatures[0] + curvatures[-1]) * gradient
    for place in ("one_device", "mirrored 2"):
        found = summaries[place]["optimizers"]["gradient_descent"]["coefficients"]
        np.testing.assert_allclose(found, weights, rtol=1e-9)


@pytest.mark.parametrize(
    ("place", "name"), [("mirrored 2", "sgd"), ("mirrored 2", "adam"), ("mirrored 3", "sgd")]
)
def test_synchronous_steps_match_single_device_results(
    summaries: dict[str, Any], place: str, name: str
) -> None:
    here, expected = (summaries[at]["optimizers"][name] for at in (place, "one_device"))
    np.testing.assert_allclose(here["coefficients"], expected["coefficients"], rtol=1e-9)


def test_averaging_every_step_is_sgd_and_every_fourth_is_not(summaries: dict[str, Any]) -> None:
    every_step = summaries["mirrored 3"]["optimizers"]
    np.testing.assert_allclose(
        every_step["averaged"]["coefficients"], every_step["sgd"]["coefficients"], rtol=1e-9
    )
    assert every_step["averaged"]["tolerance"] == every_step["sgd"]["tolerance"]
    fourth = summaries["mirrored 2"]["optimizers"]
    apart = np.subtract(fourth["averaged"]["coefficients"], fourth["sgd"]["coefficients"])
    assert np.linalg.norm(apart) > 1e-6


@pytest.mark.thorough
def test_two_workers_that_average_every_step_match_single_device_results(
    summaries: dict[str, Any], tmp_path: Path
) -> None:
    flags = ["--distribution_strategy=multi_worker_mirrored", *SIZE, f"--model_dir={tmp_path}"]
    recipe = [sys.executable, "-m", MODULE, *flags, "--optimizers=averaged", "--average_every=1"]
    done = completed("-m", "tfscale", "launch", "--num_workers=2", "--", *recipe, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    spoken = [line.removeprefix("[worker 1] ") for line in done.stdout.splitlines()]
    assert [x for x in spoken if not x.startswith("[worker 0] ") and not is_start_up(x)] == []
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert summary["num_replicas"] == 2
    found = summary["optimizers"]["averaged"]["coefficients"]
    wanted = summaries["one_device"]["optimizers"]["sgd"]["coefficients"]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_a_table_is_printed_and_a_report_written(summaries: dict[str, Any]) -> None:
    summary = summaries["mirrored 2"]
    first, heading, *lines = summary["stdout"].splitlines()
    lines, last = lines[:-2], lines[-2:]
    assert first.startswith("least squares: 960 rows, 6 features, condition ")
    assert heading.split("  ")[0] == "optimizer"
    assert [line.split()[0] for line in lines] == NAMES
    for line in lines:
        record = summary["optimizers"][line.split()[0]]
        numbers = [float(part) for part in line.split()[1:]]
        wanted = [record[key] for key in ("steps", "distance", "tolerance", "loss_gap")]
        assert numbers[:4] == pytest.approx(wanted, rel=0.01)
    folder = summary["folder"]
    assert last == [f"model directory: {folder}", f"report: {folder}/report.html"]
    names = {"summary.json", "run.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == names
    (curve,) = json.loads((folder / "run.json").read_text("utf-8"))["curves"]
    drawn = {name: record["distances"] for name, record in summary["optimizers"].items()}
    assert curve["series"] == drawn
    page = (folder / "report.html").read_text("utf-8")
    assert "distance to the least-squares solution" in page
    assert all(name in page for name in NAMES)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--num_rows=100", r"multiple of --global_batch_size=96.*--num_rows=100\. Use 96"),
        ("--data_dir=x", r"Unknown command line flag 'data_dir'"),
        ("--condition=0.5", r"--condition=0\.5: must be at least 1"),
        ("--noise=nan", r"--noise=nan: must be finite and at least 0"),
        ("--num_rows=96 --num_features=200", r"at least as many rows as features.*96 rows\. Use"),
        ("--optimizers=sgd,adagrad", r"--optimizers=sgd,adagrad: must be names from.*--help"),
        ("--shard=3", r"must be 0 with averaged.*--shard=3\. Leave it out"),
        ("--average_every=0", r"--average_every=0: .*See --help"),
        ("--precision=mixed_bfloat16", r"must be float64 or float32.*Use --precision=float64"),
    ],
)
def test_wrong_input_gives_one_line_with_the_cure_and_status_2(
    run_recipe: Callable[..., Run], flags: str, message: str
) -> None:
    run = run_recipe("--distribution_strategy=one_device", *flags.split(), module=MODULE)
    assert (run.status, run.stdout) == (2, ""), run.stderr
    (line,) = run.complaints
    assert re.match(f"linear_regression.py: .*{message}", line), line


def test_help_shows_how_to_start_and_the_defaults(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("--help", module=MODULE)
    assert (run.status, run.stderr) == (0, "")
    assert "tfscale launch --num_workers=2 -- python -m recipes.linear_regression" in run.stdout
    assert "(default: 3072)" in run.stdout
    assert "|mixed_float16\n      (default: float64)" in run.stdout
