"""Datasets of other libraries as sources. Each test is skipped where its library is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfscale.data import indexed

ROWS = tf.constant([4, 0, 4], tf.int64)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("form", [None, "numpy", "torch"])
def test_a_hugging_face_dataset(workers: int, form: str | None) -> None:
    datasets = pytest.importorskip("datasets")
    if form == "torch":
        pytest.importorskip("torch")
    rows = {
        "id": list(range(5)),
        "text": [f"é{i}" for i in range(5)],
        "tokens": [list(range(i)) for i in range(5)],
        "box": [[float(i)] * 2 for i in range(5)],
    }
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "text": datasets.Value("string"),
            "tokens": datasets.List(datasets.Value("int64")),
            "box": datasets.List(datasets.Value("float64"), length=2),
        }
    )
    dataset = datasets.Dataset.from_dict(rows, features=features).with_format(form)
    source = indexed(dataset, read_workers=workers)
    batch = tf.function(source.take)(ROWS)
    source.reader.close()  # type: ignore[attr-defined]
    assert batch["id"].numpy().tolist() == [4, 0, 4]
    assert batch["text"].numpy().tolist() == ["é4".encode(), "é0".encode(), "é4".encode()]
    assert batch["tokens"].to_list() == [[0, 1, 2, 3], [], [0, 1, 2, 3]]
    assert batch["box"].numpy().tolist() == [[4, 4], [0, 0], [4, 4]]
    changed = datasets.Dataset.from_dict({**rows, "id": [0, 1, 2, 3, 9]}, features=features)
    assert indexed(changed.with_format(form)).fingerprint != source.fingerprint


def test_a_missing_value_of_a_hugging_face_dataset_is_named() -> None:
    datasets = pytest.importorskip("datasets")
    source = indexed(datasets.Dataset.from_dict({"id": [0, 1, None]}))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"example 2\['id'\] with None"):
        tf.function(source.take)(tf.constant([1, 2], tf.int64))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_torch_dataset(workers: int) -> None:
    torch = pytest.importorskip("torch")
    data = pytest.importorskip("torch.utils.data")
    dataset: Any = data.TensorDataset(torch.arange(10.0).reshape(5, 2), torch.arange(5))
    for part in (dataset, data.Subset(dataset, range(5))):  # the second has __getitems__
        source = indexed(part, read_workers=workers)
        x, y = tf.function(source.take)(ROWS)
        source.reader.close()  # type: ignore[attr-defined]
        assert (x.dtype, x.numpy().tolist()) == (tf.float32, [[8, 9], [0, 1], [8, 9]])
        assert y.numpy().tolist() == [4, 0, 4]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_source_of_grain(workers: int) -> None:
    grain = pytest.importorskip("grain")
    dataset = grain.MapDataset.source(np.arange(5) * 2)
    source = indexed(dataset, read_workers=workers)
    batch = tf.function(source.take)(ROWS)
    source.reader.close()  # type: ignore[attr-defined]
    assert batch.numpy().tolist() == [8, 0, 8]
