from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras
import pytest

from tests.unit.recipes.conftest import Run


@pytest.mark.thorough
def test_other_image_sets_of_tfds_train_like_the_digits(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path: Path
) -> None:
    # 203 images of 12x10x3 in 5 classes: this process has no builder class of that name and reads
    # the set from data_dir, as it would any set of a user.
    (tmp_path / "flags").write_text(
        f"--dataset=stripes/stripes\n--data_dir={data_dir}\n--model_dir={tmp_path / 'model'}\n"
        "--distribution_strategy=mirrored\n--num_replicas=2\n"
        "--global_batch_size=20\n--train_epochs=3\n--augmentation=0\n--dropout=0.1\n--seed=5\n"
    )
    run = run_recipe(f"--flagfile={tmp_path / 'flags'}", "--seed=6")
    assert run.status == 0, run.stderr
    assert run.complaints == []
    assert "test accuracy: 1.0000" in run.stdout.splitlines()
    assert f"model directory: {tmp_path / 'model'}" in run.stdout.splitlines()
    summary = json.loads((tmp_path / "model" / "summary.json").read_text("utf-8"))
    assert summary["num_replicas"] == 2
    assert len(summary["history"]["loss"]) == 3
    chosen = {"dataset": "stripes/stripes", "augmentation": 0.0, "dropout": 0.1, "seed": 6}
    assert chosen.items() <= summary["flags"].items()
    model = keras.saving.load_model(tmp_path / "model" / "model.keras")
    assert model.input_shape == (None, 12, 10, 3)
    assert model.output_shape == (None, 5)


@pytest.mark.thorough
def test_the_model_is_saved_even_if_predictions_cannot_be_written(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path: Path
) -> None:
    run = run_recipe(
        "--dataset=stripes/stripes",
        f"--data_dir={data_dir}",
        f"--model_dir={tmp_path / 'model'}",
        "--predictions=/dev/full",  # Devices are accepted, and this one is always full.
        "--distribution_strategy=one_device",
        "--global_batch_size=20",
        "--train_steps=2",
        "--label_smoothing=0.1",
        "--flips",
    )
    assert run.status == 1
    (line,) = run.complaints
    assert "The predictions could not be written to /dev/full: No space left on device." in line
    model = keras.saving.load_model(tmp_path / "model" / "model.keras")
    assert model.output_shape == (None, 5)
    summary = json.loads((tmp_path / "model" / "summary.json").read_text("utf-8"))
    assert len(summary["history"]["loss"]) == 1


def test_an_interrupted_run_resumes_and_a_finished_one_starts_over(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path: Path
) -> None:
    flags = [
        "--dataset=stripes/stripes",
        f"--data_dir={data_dir}",
        f"--model_dir={tmp_path}",
        "--distribution_strategy=one_device",
        "--global_batch_size=40",
        "--train_epochs=2",
        "--checkpoint_every=epoch",
    ]
    cut_off = "tests.unit.recipes.cut_off"
    assert run_recipe(*flags, module=cut_off, RECIPE="recipes.image_classification").status == -9
    resumed = run_recipe(*flags)
    assert resumed.status == 0, resumed.stderr
    assert "checkpoints after 2 of 2 epochs." in resumed.stderr
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert len(summary["history"]["loss"]) == 2
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_run_that_cannot_be_resumed_is_refused_with_the_flag(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path: Path
) -> None:
    flags = ["--dataset=stripes/stripes", f"--data_dir={data_dir}", f"--model_dir={tmp_path}"]
    run = run_recipe(*flags, "--checkpoint_every=9", "--train_steps=2", "--global_batch_size=40")
    assert run.status == 2
    assert "`--checkpoint_every` must be none if --train_steps" in run.complaints[0]


@pytest.mark.thorough
def test_a_found_rate_trains_as_the_same_rate_by_flag(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path: Path
) -> None:
    flags = ["--dataset=stripes/stripes", f"--data_dir={data_dir}", "--global_batch_size=20"]
    flags += ["--distribution_strategy=mirrored", "--num_replicas=2", "--train_steps=4"]
    found = run_recipe(*flags, f"--model_dir={tmp_path / 'found'}", "--find_learning_rate")
    assert found.status == 0, found.stderr
    (line,) = [each for each in found.stdout.splitlines() if each.startswith("training with ")]
    rate = line.removeprefix("training with ")
    given = run_recipe(*flags, f"--model_dir={tmp_path / 'given'}", rate)
    losses = [
        json.loads((tmp_path / name / "summary.json").read_text("utf-8"))["history"]["loss"]
        for name in ("found", "given")
    ]
    assert losses[0] == losses[1], given.stderr


def test_a_rate_is_either_given_or_found(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path: Path
) -> None:
    flags = ["--dataset=stripes/stripes", f"--data_dir={data_dir}", f"--model_dir={tmp_path}"]
    run = run_recipe(*flags, "--find_learning_rate", "--learning_rate=0.1")
    assert run.status == 2
    assert "`--learning_rate` must be left out with --find_learning_rate" in run.complaints[0]


@pytest.mark.thorough
def test_a_found_batch_size_trains_as_the_same_size_by_flag(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path: Path
) -> None:
    flags = [
        "--dataset=stripes/stripes",
        f"--data_dir={data_dir}",
        "--train_steps=3",
        "--validation=0.8",
    ]
    flags += ["--distribution_strategy=mirrored", "--num_replicas=2"]
    folder = f"--model_dir={tmp_path / 'found'}"
    found = run_recipe(*flags, folder, "--find_batch_size=largest", seconds=600)
    assert found.status == 0, found.stderr
    (line,) = [each for each in found.stdout.splitlines() if each.startswith("training with ")]
    size = line.removeprefix("training with ")
    assert f"largest that fits: {int(size.partition('=')[2]):,}" in found.stdout
    given = run_recipe(*flags, f"--model_dir={tmp_path / 'given'}", size)
    losses = [
        json.loads((tmp_path / name / "summary.json").read_text("utf-8"))["history"]["loss"]
        for name in ("found", "given")
    ]
    assert losses[0] == losses[1], given.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "`--distribution_strategy` must be given with --find_batch_size"),
        (["--global_batch_size=8"], "`--global_batch_size` must be left out with"),
        (["--microbatches=2"], "`--microbatches` must be left out with --find_batch_size"),
        (["--shard=1"], "`--shard` must be left out with --find_batch_size"),
    ],
)
def test_a_batch_size_is_found_for_steps_that_can_be_tried(
    run_recipe: Callable[..., Run],
    data_dir: str,
    tmp_path: Path,
    flags: list[str],
    message: str,
) -> None:
    all_flags = ["--dataset=stripes/stripes", f"--data_dir={data_dir}", f"--model_dir={tmp_path}"]
    all_flags += [*flags, "--find_batch_size=fastest"]
    run = run_recipe(*all_flags, *(["--distribution_strategy=mirrored"] if flags else []))
    assert run.status == 2
    assert message in run.complaints[0]
