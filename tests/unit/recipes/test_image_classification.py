from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras

from tests.unit.recipes.conftest import Run


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
