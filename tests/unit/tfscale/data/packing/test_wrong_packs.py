"""What `pack` refuses: functions that change the number of rows, names, a set in its source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfscale.data import filtered, image_folder, pack

SOURCE = {"x": np.arange(10), "y": np.arange(10) / 2}


@pytest.mark.parametrize("as_dataset", [False, True])
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda batch: tf.repeat(batch["x"], 2), id="each row twice"),
        pytest.param(lambda _: "a text", id="a text"),
        pytest.param(lambda _: np.arange(3), id="an array"),
        pytest.param(lambda _: tf.ragged.constant([[1], [2, 3], []]), id="ragged"),
    ],
)
def test_a_function_that_changes_the_number_of_rows_is_refused(
    wrong: Callable[[Any], Any], tmp_path: Path, *, as_dataset: bool
) -> None:
    source = tf.data.Dataset.from_tensor_slices(SOURCE) if as_dataset else SOURCE
    with pytest.raises(ValueError, match=r"`preprocess` must return as many rows") as caught:
        pack(source, tmp_path / "set", preprocess=wrong)
    # One sentence, without the names of TensorFlow's nodes.
    assert str(caught.value).strip().endswith("tfscale.data.shared(part).")
    assert "node" not in str(caught.value)


@pytest.mark.parametrize("as_dataset", [False, True])
@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (lambda batch: batch["x"], "must map a batch of n examples to a bool tensor"),
        (lambda batch: (batch["x"] > 1, batch["y"] > 1), r"Received: (dict|bool of shape \(2)"),
        (lambda _: None, "Received: NoneType"),
        (lambda _: [True, False, True], "`keep` must (map a|return as many)"),
    ],
    ids=["numbers", "a tuple", "none", "another number of rows"],
)
def test_a_filter_that_does_not_return_one_bool_for_each_example_is_refused(
    wrong: Callable[[Any], Any], rule: str, tmp_path: Path, *, as_dataset: bool
) -> None:
    source = tf.data.Dataset.from_tensor_slices(SOURCE) if as_dataset else SOURCE
    with pytest.raises(ValueError, match=rule):
        pack(source, tmp_path / "set", keep=wrong)


def test_an_error_in_python_is_named(tmp_path: Path) -> None:
    def fails(_: Any) -> None:
        raise KeyError("no such price")

    def prices(batch: Any) -> tf.Tensor:
        return tf.py_function(fails, [batch["x"]], tf.int64)

    with pytest.raises(ValueError, match=r"Examples 0 to 0 .*no such price"):
        pack(SOURCE, tmp_path / "set", preprocess=prices)


@pytest.mark.parametrize("names", ["cat", ["cat", 3], [""], 5])
def test_class_names_that_are_no_texts_are_refused(names: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`class_names` must be .*Received: class_names="):
        pack(SOURCE, tmp_path / "set", class_names=names)
    assert not (tmp_path / "set").exists()


def test_an_image_folder_is_not_packed_into_itself(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        image = tf.io.encode_png(np.zeros([4, 4, 3], np.uint8)).numpy()
        (folder / name / "1.png").write_bytes(image)
    pets = image_folder(folder)
    for source in (pets, filtered(pets, lambda batch: batch[1] == 0)):
        for inside in (folder, folder / "set", folder / "ant" / "set"):
            with pytest.raises(ValueError, match="`folder` must be outside of the image folder"):
                pack(source, inside)
    assert sorted(path.name for path in folder.iterdir()) == ["ant", "bee"]
    pack(pets, tmp_path / "pets_packed")  # a name that begins with that of the folder
