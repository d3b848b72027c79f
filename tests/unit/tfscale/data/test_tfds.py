from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets

import tests.unit.tfscale.data.squares_dataset_builder  # noqa: F401  (registers "squares")
from tfscale.data import tfds
from tfscale.data.tfds_preparation import prepare


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def squares(data_dir: str) -> Any:
    builder = tfds.find_builder("squares/fixed", data_dir=data_dir)
    prepare(builder, is_preparer=True)
    return builder


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("digits", ("digits", None)),
        ("digits:train", ("digits", "train")),
        ("mnist:train[:80%]", ("mnist", "train[:80%]")),  # The split may hold a colon.
        ("mnist:3.0.1", ("mnist:3.0.1", None)),  # A version is part of the name.
        ("mnist:3.*.*:test", ("mnist:3.*.*", "test")),
        ("cifar10_corrupted/fog_3:test", ("cifar10_corrupted/fog_3", "test")),
    ],
)
def test_a_name_is_split_at_its_split(name: str, parsed: tuple[str, str | None]) -> None:
    assert tfds.parse_name(name) == parsed


@pytest.mark.parametrize("name", ["", ":train", "digits:", "two words"])
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"`name` must be a TFDS name .* Received: name="):
        tfds.parse_name(name)


def test_arrays_hold_the_written_values_in_the_written_order(squares: Any) -> None:
    images, labels = tfds.load_arrays(squares, "train")
    assert images.shape == (40, 5, 7, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(images[:, 4, 6, 2], np.arange(40))
    np.testing.assert_array_equal(labels, np.arange(40) % 4)


def test_files_are_read_one_after_the_other(data_dir: str) -> None:
    # Two files of about 20 examples: TFDS by default reads 16 of one, then 16 of the other.
    builder = tfds.find_builder("squares/shuffled", data_dir=data_dir)
    config = tensorflow_datasets.download.DownloadConfig(try_download_gcs=False, num_shards=2)
    prepare(builder, is_preparer=True, download_config=config)
    assert builder.info.splits["train"].num_shards == 2
    files = [tfds.load_arrays(builder, f"train[{i}shard:{i + 1}shard]")[0] for i in range(2)]
    assert min(len(images) for images in files) > 16
    images, _ = tfds.load_arrays(builder, "train")
    np.testing.assert_array_equal(images, np.concatenate(files))
    assert sorted(images[:, 0, 0, 0]) == list(range(40))


def test_a_slice_of_a_split_is_that_slice(squares: Any) -> None:
    images, _ = tfds.load_arrays(squares, "train[10:15]+test[:1]")
    assert images[:, 0, 0, 0].tolist() == [10, 11, 12, 13, 14, 0]


def test_a_set_over_the_limit_becomes_a_dataset_of_the_same_examples(squares: Any) -> None:
    train_bytes = 40 * (5 * 7 * 3 + 8)
    assert tfds.fits_in_memory(squares, "train", limit_bytes=train_bytes)
    assert not tfds.fits_in_memory(squares, "train", limit_bytes=train_bytes - 1)
    source = tfds.image_source(squares, limit_bytes=train_bytes - 1)
    assert isinstance(source, tf.data.Dataset)
    assert source.element_spec[0] == tf.TensorSpec((5, 7, 3), tf.uint8)
    assert [int(image[0, 0, 0]) for image, _ in source] == list(range(40))


def test_a_set_without_one_shape_becomes_a_dataset(data_dir: str) -> None:
    source = tfds.image_source("squares/any_shape:test", data_dir=data_dir)
    assert isinstance(source, tf.data.Dataset)
    assert [int(label) for _, label in source] == [index % 4 for index in range(12)]


def test_a_name_gives_the_split_it_names(squares: Any, data_dir: str) -> None:
    _, labels = tfds.image_source("squares/fixed:2.3.4:test", data_dir=data_dir)
    assert len(labels) == 12


def test_an_unknown_set_is_refused(data_dir: str) -> None:
    with pytest.raises(ValueError, match=r"`name` must be .* Received: name='no_such_set'"):
        tfds.image_source("no_such_set", data_dir=data_dir)


@pytest.mark.parametrize("split", ["valid", "valid[:5]"])
def test_an_unknown_split_is_refused_with_the_known_ones(squares: Any, split: str) -> None:
    with pytest.raises(ValueError, match=r"`split` must be .* squares/fixed/2.3.4 has test, train"):
        tfds.image_source(squares, split)


def test_two_splits_for_one_source_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`split` must not be passed if the name contains one"):
        tfds.image_source("squares:test", "train")


def test_a_folder_beside_a_builder_is_refused(squares: Any) -> None:
    with pytest.raises(ValueError, match=r"`data_dir` must not be passed with a builder"):
        tfds.image_source(squares, data_dir="/elsewhere")


def test_a_set_without_targets_is_refused(data_dir: str) -> None:
    with pytest.raises(ValueError, match=r"must be a dataset of \(input, target\) pairs"):
        tfds.image_source("squares/unsupervised", data_dir=data_dir)


@pytest.mark.parametrize("missing", ["tensorflow_datasets", "importlib_resources"])
def test_a_missing_library_names_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # How Python marks a module as not importable.
    with pytest.raises(ImportError, match=rf'need {missing}.*pip install "tfscale\[recipes\]"'):
        tfds.image_source("digits")
