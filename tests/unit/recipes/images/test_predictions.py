from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.images.predictions import predict_split

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 17, (23, 4, 3, 1)).astype(np.uint8)
LABELS = RNG.integers(0, 5, 23)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(2)
    layers = [keras.Input((4, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(5)]
    return keras.Sequential(layers)


def expected(model: keras.Model) -> tuple[Any, Any]:
    """Class and probability of each image, in NumPy."""
    kernel, bias = model.get_weights()
    logits = IMAGES.reshape(23, 12).astype(np.float64) @ kernel + bias
    return logits.argmax(axis=1), (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).max(1)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# 12 bytes per image and batches of 4: 100 bytes are two batches, 1 byte is less than one.
@pytest.mark.parametrize("chunk_bytes", [1, 100, 2**20])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_there_is_one_row_per_example_in_order_for_any_chunk_size(
    model: keras.Model, tmp_path: Path, chunk_bytes: int, is_streamed: bool
) -> None:
    pairs = (IMAGES, LABELS)
    source = tf.data.Dataset.from_tensor_slices(pairs) if is_streamed else pairs
    path = tmp_path / "predictions.csv"
    confusion = predict_split(
        model, source, num_classes=5, batch_size=4, path=str(path), chunk_bytes=chunk_bytes
    )
    rows = read(path)
    classes, probabilities = expected(model)
    assert [int(row["row"]) for row in rows] == list(range(23))
    assert [int(row["label"]) for row in rows] == LABELS.tolist()
    assert [int(row["prediction"]) for row in rows] == classes.tolist()
    np.testing.assert_allclose([float(row["probability"]) for row in rows], probabilities, 1e-5)
    counts = np.zeros((5, 5), int)
    for label, predicted in zip(LABELS, classes, strict=True):
        counts[label, predicted] += 1
    np.testing.assert_array_equal(confusion, counts)
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.csv"]


def test_without_a_path_nothing_is_written(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    confusion = predict_split(model, (IMAGES, LABELS), num_classes=5, batch_size=8)
    assert confusion is not None
    assert confusion.sum() == 23
    assert predict_split(model, (IMAGES, LABELS), num_classes=None, batch_size=8) is None
    assert [*tmp_path.iterdir()] == []


def test_a_failure_half_way_leaves_the_earlier_file_unchanged(
    model: keras.Model, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("earlier")
    labels = LABELS.copy()
    labels[-1] = 5  # In the last chunk, once the others are written.
    with pytest.raises(IndexError):
        predict_split(
            model, (IMAGES, labels), num_classes=5, batch_size=4, path=str(path), chunk_bytes=1
        )
    assert path.read_text() == "earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.csv"]


def test_a_missing_folder_gives_one_clear_error(model: keras.Model, tmp_path: Path) -> None:
    path = str(tmp_path / "gone" / "predictions.csv")
    with pytest.raises(OSError, match=r"predictions could not be written to .*gone.*: .*Make room"):
        predict_split(model, (IMAGES, LABELS), num_classes=5, batch_size=4, path=path)
