from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recipes.digits.digits_dataset_builder  # noqa: F401  (registers the name "digits")
from recipes.digits import split
from tfscale.data import tfds

# Of `digits.csv.gz` as scikit-learn 1.9.1 distributes it, decompressed.
SOURCE_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
# Class distribution of the test part, from optdigits.names of the UCI repository.
UCI_CLASS_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]

Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def train(data_dir: str) -> Arrays:
    return tfds.image_source("digits", data_dir=data_dir)


@pytest.fixture(scope="module")
def test(data_dir: str) -> Arrays:
    return tfds.image_source("digits:test", data_dir=data_dir)


@pytest.fixture(scope="module")
def source_rows() -> np.ndarray[Any, Any]:
    return np.loadtxt(split.FOLDER / "digits.csv.gz", delimiter=",", dtype=np.int64)


@pytest.fixture(scope="module")
def test_indices() -> np.ndarray[Any, Any]:
    return np.loadtxt(split.FOLDER / "test_indices.txt", dtype=np.int64)


def test_the_file_is_the_published_one_unchanged() -> None:
    content = gzip.decompress((split.FOLDER / "digits.csv.gz").read_bytes())
    assert hashlib.sha256(content).hexdigest() == SOURCE_SHA256


def test_the_parts_have_their_sizes_types_and_ranges(train: Arrays, test: Arrays) -> None:
    for (images, labels), count in ((train, 1437), (test, 360)):
        assert images.shape == (count, 8, 8, 1)
        assert images.dtype == np.uint8
        assert (images.min(), images.max()) == (0, 16)
        assert labels.shape == (count,)
        assert labels.dtype == np.int64


def test_the_parts_contain_the_source_rows_in_order(
    train: Arrays,
    test: Arrays,
    source_rows: np.ndarray[Any, Any],
    test_indices: np.ndarray[Any, Any],
) -> None:
    train_indices = np.setdiff1d(np.arange(1797), test_indices)
    for (images, labels), indices in ((train, train_indices), (test, test_indices)):
        np.testing.assert_array_equal(images.reshape(-1, 64), source_rows[indices, :-1])
        np.testing.assert_array_equal(labels, source_rows[indices, -1])


def test_no_test_image_is_a_train_image(train: Arrays, test: Arrays) -> None:
    images = np.concatenate([train[0], test[0]]).reshape(-1, 64)
    assert len(np.unique(images, axis=0)) == 1797


def test_a_fifth_of_each_class_is_for_testing(train: Arrays, test: Arrays) -> None:
    test_counts = np.bincount(test[1], minlength=10)
    np.testing.assert_array_equal(test_counts + np.bincount(train[1]), UCI_CLASS_COUNTS)
    assert np.abs(test_counts - np.array(UCI_CLASS_COUNTS) / 5).max() < 1


def test_the_committed_split_is_what_split_py_draws(
    source_rows: np.ndarray[Any, Any], test_indices: np.ndarray[Any, Any]
) -> None:
    labels = source_rows[:, -1].tolist()
    assert split.choose_test_indices(labels) == test_indices.tolist()
    assert split.choose_test_indices(labels, seed=1) != test_indices.tolist()


def test_the_split_takes_one_in_five_of_each_class_by_hash() -> None:
    # printf 0:4 | sha256sum: of "0:0" to "0:4" the digests start with ac72 ef13 9328 76d3 48f0.
    assert split.choose_test_indices([7] * 5) == [4]


def test_an_impossible_fraction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`every` must be a positive integer. Received: every=0"):
        split.choose_test_indices([0, 1], every=0)


def test_the_attribution_names_source_authors_licence_and_changes() -> None:
    text = (Path(split.FOLDER) / "README.md").read_text()
    for words in ("10.24432/C50P49", "E. Alpaydin and C. Kaynak", "CC BY 4.0", "what was changed"):
        assert words in text
