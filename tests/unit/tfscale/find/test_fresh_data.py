"""Data for a test run: the same batches, while the user's own stay as they were."""

from __future__ import annotations

import threading
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfscale.find.fresh_data import fresh_data


def rows(dataset: tf.data.Dataset, batches: int) -> list[Any]:
    return [batch.numpy().tolist() for batch in dataset.take(batches)]


def numbers() -> tf.data.Dataset:
    return tf.data.Dataset.range(8).shuffle(8, seed=3).batch(4)


def test_a_copy_begins_as_the_dataset_began_and_does_not_count_as_its_reader() -> None:
    alone, dataset = numbers(), numbers()
    first, second = rows(alone, 2), rows(alone, 2)
    assert first != second
    assert rows(fresh_data(dataset)["x"], 4) == [*first, *second]
    assert rows(fresh_data(dataset)["x"], 2) == first
    assert rows(dataset, 2) == first
    assert rows(fresh_data(dataset)["x"], 2) == first
    assert rows(dataset, 2) == second


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(
            lambda: tf.data.Dataset.from_generator(
                lambda: iter([1, 2, 3]), output_signature=tf.TensorSpec([], tf.int32)
            ),
            [1, 2, 3, 1],
            id="a generator function",
        ),
        pytest.param(
            lambda: tf.data.Dataset.range(2).map(
                lambda x: tf.py_function(lambda v: v + 1, [x], tf.int64)
            ),
            [1, 2, 1, 2],
            id="a Python function",
        ),
        pytest.param(
            lambda: tf.data.Dataset.from_tensor_slices(["a", "b"]).map(
                keras.layers.StringLookup(vocabulary=["b", "a"])
            ),
            [2, 1, 2, 1],
            id="a lookup table",
        ),
    ],
)
def test_datasets_with_functions_and_tables_are_copied(make: Any, expected: list[int]) -> None:
    assert rows(fresh_data(make())["x"], 4) == expected


class Locked(keras.utils.PyDataset):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return np.zeros((4, 1)), np.zeros(4)


def test_a_py_dataset_that_cannot_be_copied_is_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match=r"Received: Locked, .* Pass a function that makes it"):
        fresh_data(Locked())
    assert fresh_data(Locked)["x"].num_batches == 2
