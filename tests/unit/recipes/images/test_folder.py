"""Folders of images as sets of the image recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recipes.images.folder import FolderSet
from recipes.images.sets import find_image_set
from tests.unit.recipes.conftest import Run

Image = pytest.importorskip("PIL.Image")


def colours(folder: Path, count: int, size: int = 12) -> None:
    """Writes images of three classes, each with more of one colour."""
    random = np.random.default_rng(0)
    for label, name in enumerate(["red", "green", "blue"]):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 60, (size, size, 3), np.uint8)
            pixels[:, :, label] += 150
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def test_the_recipe_trains_on_a_folder(run_recipe: Callable[..., Run], tmp_path: Path) -> None:
    colours(tmp_path / "images", 40)
    predictions = tmp_path / "predictions.csv"
    run = run_recipe(
        f"--data_dir={tmp_path / 'images'}",
        f"--model_dir={tmp_path / 'model'}",
        f"--predictions={predictions}",
        "--train_epochs=3",
        "--global_batch_size=16",
        "--image_size=8",
    )
    assert run.status == 0, run.stderr
    assert json.loads((tmp_path / "model" / "summary.json").read_text())["test_accuracy"] > 0.9
    assert len(predictions.read_text().splitlines()) == 1 + 3 * 8  # a fifth of each class


def test_a_fifth_of_each_class_is_the_test_and_depends_on_names_only(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        colours(tmp_path / folder, 10)
    splits = []
    for folder in ("a", "b"):
        image_set = find_image_set(None, data_dir=str(tmp_path / folder))
        assert isinstance(image_set, FolderSet)
        assert image_set.class_names == ["blue", "green", "red"]
        assert [image_set.num_examples(split) for split in ("train", "test")] == [24, 6]
        assert image_set.read("test").labels.tolist() == [0, 0, 1, 1, 2, 2]
        files = [
            {str(Path(f).relative_to(tmp_path / folder)) for f in image_set.read(split).files}
            for split in ("train", "test")
        ]
        assert len(files[0] | files[1]) == 30
        splits.append(files)
    assert splits[0] == splits[1]


def test_folders_train_and_test_are_the_splits(tmp_path: Path) -> None:
    colours(tmp_path / "train", 3)
    colours(tmp_path / "test", 1)
    image_set = find_image_set(None, data_dir=str(tmp_path))
    image_set.prepare(shows_progress=False)
    assert [image_set.num_examples(split) for split in ("train", "test")] == [9, 3]
    (tmp_path / "test" / "red").rename(tmp_path / "test" / "rose")
    with pytest.raises(ValueError, match=r"blue, green, red of .*, and blue, green, rose of"):
        find_image_set(None, data_dir=str(tmp_path)).prepare(shows_progress=False)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--data_dir=NONE --image_size=8", r"`--image_size` must not be set"),
        ("--data_dir=FOLDER --image_size=8 --dataset=digits", r"--dataset=digits\. Omit one"),
        ("--data_dir=FOLDER --global_batch_size=2", r"at least 2 images of each class"),
    ],
)
def test_wrong_flags_are_one_line_with_the_cure(
    run_recipe: Callable[..., Run], tmp_path: Path, flags: str, message: str
) -> None:
    colours(tmp_path / "images", 1)
    flags = flags.replace("FOLDER", str(tmp_path / "images")).replace("NONE", str(tmp_path / "no"))
    run = run_recipe(*flags.split(), f"--model_dir={tmp_path / 'model'}")
    (line,) = run.complaints
    assert run.status == 2
    assert message.replace("\\", "") in line
