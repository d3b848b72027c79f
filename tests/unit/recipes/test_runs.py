"""Whole runs of a few steps: with the flag files, and compared with each other."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.programs import ROOT
from tests.unit.recipes.conftest import Run, distance, launch_two_workers, weights
from tfscale.data import tfds
from tfscale.report.directory import read_directory
from tfscale.report.page import render

FLAG_FILES = ROOT / "recipes" / "flags"
RATE, WARMUP, STEPS = 0.2, 4, 18
# An epoch has 15 batches of 96, the last one of 93: the runs pass it and stop in mid-epoch.
SAME = [
    "--precision=float64",
    "--dropout=0",
    "--augmentation=0",
    "--optimizer=sgd",
    "--momentum=0.9",
    f"--learning_rate={RATE}",
    "--schedule=linear",
    f"--warmup_steps={WARMUP}",
    f"--train_steps={STEPS}",
    "--gradient_clip_norm=0.5",
    "--weight_decay=0.001",
]
PLACES = {
    "one device": ["--distribution_strategy=one_device"],
    # 93 images in four parts: 23, 23, 23, 24.
    "one device, 4 parts": ["--distribution_strategy=one_device", "--microbatches=4"],
    "laptop": [f"--flagfile={FLAG_FILES / 'laptop.flags'}", "--microbatches=2", "--tensorboard"],
    "two workers": [f"--flagfile={FLAG_FILES / 'two_workers.flags'}", "--microbatches=2"],
}
# `make test` keeps the laptop, whose replicas train in two parts each.
AT_LENGTH = {"one device, 4 parts", "two workers"}
MARKED = [
    pytest.param(place, marks=[pytest.mark.thorough] if place in AT_LENGTH else [])
    for place in PLACES
]


@pytest.fixture(scope="module")
def model_dir(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Runs once in a place; returns the model directory, which contains predictions.csv."""
    folder = tmp_path_factory.mktemp("places")

    def run(place: str) -> Path:
        path = folder / place
        if path.exists():
            return path
        own = [
            f"--data_dir={data_dir}",
            f"--model_dir={path}",
            f"--predictions={path / 'predictions.csv'}",
        ]
        if place == "two workers":
            launch_two_workers([*PLACES[place], *SAME, *own])
        else:
            ended = run_recipe(*PLACES[place], *SAME, *own)
            assert ended.status == 0, ended.stderr
        return path

    return run


def read(path: Path) -> dict[str, list[float]]:
    """Reads the columns of a CSV file of numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "place",
    MARKED[1:],
)
def test_microbatches_train_the_same_weights_as_whole_batches(
    model_dir: Callable[[str], Path], place: str
) -> None:
    reference = weights(model_dir("one device"))
    assert distance(weights(model_dir(place)), reference) <= 1e-12


@pytest.mark.parametrize("place", MARKED)
def test_predictions_match_single_device_results_in_the_order_of_the_split(
    model_dir: Callable[[str], Path], data_dir: str, place: str
) -> None:
    here = read(model_dir(place) / "predictions.csv")
    reference = read(model_dir("one device") / "predictions.csv")
    _, labels = tfds.image_source("digits:test", data_dir=data_dir)
    assert here["row"] == list(range(360))
    assert here["label"] == labels.tolist()
    assert here["prediction"] == reference["prediction"]
    np.testing.assert_allclose(here["probability"], reference["probability"], rtol=1e-10)
    right = np.mean(
        [label == taken for label, taken in zip(labels, here["prediction"], strict=True)]
    )
    results = json.loads((model_dir(place) / "run.json").read_text("utf-8"))["results"]
    assert right == pytest.approx(results["test_accuracy"], abs=1e-12)


@pytest.mark.parametrize("place", MARKED)
def test_the_logged_rate_is_the_closed_form(model_dir: Callable[[str], Path], place: str) -> None:
    metrics = read(model_dir(place) / "metrics.csv")
    assert metrics["step"] == [15, STEPS]
    # Up to the rate over the first 4 updates, then a line that reaches 0 after the last of 18.
    expected = [RATE * (1 - (step - 1 - WARMUP) / (STEPS - WARMUP)) for step in (15, STEPS)]
    assert metrics["learning_rate"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("place", MARKED[2:])
def test_the_report_contains_the_run(model_dir: Callable[[str], Path], place: str) -> None:
    folder = model_dir(place)
    run = read_directory(folder)
    predictions = read(folder / "predictions.csv")
    counts = np.zeros((10, 10), int)
    for label, taken in zip(predictions["label"], predictions["prediction"], strict=True):
        counts[int(label), int(taken)] += 1
    assert run.confusion is not None
    np.testing.assert_array_equal(run.confusion.matrix, counts)
    assert run.configuration["microbatches"] == 2
    assert run.environment["replicas"] == 2
    assert run.timing.num_steps == STEPS
    assert list(run.history["loss"]) == read(folder / "metrics.csv")["loss"]
    assert (folder / "report.html").read_text("utf-8") == render(run)


def test_tensorboard_shows_the_metrics_of_each_epoch(model_dir: Callable[[str], Path]) -> None:
    folder = model_dir("laptop")
    logged: dict[str, dict[int, float]] = {}
    for path in sorted((folder / "tensorboard").rglob("events.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                if value.HasField("tensor") and value.tag.startswith("epoch_"):
                    shown = float(tf.make_ndarray(value.tensor))
                    logged.setdefault(value.tag, {})[event.step] = shown
    metrics = read(folder / "metrics.csv")
    for name in ("loss", "accuracy"):
        assert list(logged[f"epoch_{name}"]) == [0, 1]
        values = [logged[f"epoch_{name}"][epoch] for epoch in (0, 1)]
        assert values == pytest.approx(metrics[name], rel=1e-6)


@pytest.mark.parametrize("name", sorted(path.name for path in FLAG_FILES.iterdir()))
def test_every_flag_file_contains_flags_of_the_recipe(
    run_recipe: Callable[..., Run], name: str
) -> None:
    # An unknown flag or a wrong value ends the program before it looks for the dataset.
    run = run_recipe(f"--flagfile={FLAG_FILES / name}", "--dataset=nosuch")
    assert run.status == 2
    assert "`--dataset` must be digits" in run.complaints[0]


def test_there_are_four_flag_files() -> None:
    names = sorted(path.stem for path in FLAG_FILES.iterdir())
    assert names == ["four_gpus", "laptop", "tpu_vm", "two_workers"]
