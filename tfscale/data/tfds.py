"""TFDS image datasets as sources of `input_pipeline`.

    strategy = strategies.mirrored_strategy(2)
    images, labels = tfscale.data.tfds.image_source("mnist:train[:80%]", data_dir="/tmp/data")

Build the strategy first, because reading initialises TensorFlow and fixes its devices.

A dataset is prepared once per file system. If its decoded examples fit in memory, it is read into
arrays, which have random access. A larger dataset becomes a `tf.data.Dataset`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import tensorflow as tf

from tfscale.data.tfds_preparation import prepare, tfds_library

__all__ = [
    "find_builder",
    "fits_in_memory",
    "image_source",
    "load_arrays",
    "load_dataset",
    "parse_name",
    "prepare",
    "tfds_library",
]

MEMORY_LIMIT_BYTES = 2**30
READ_BATCH_SIZE = 1024


def parse_name(name: str) -> tuple[str, str | None]:
    """Splits "name:split" into the TFDS name and the split, or None without a split.

    A version belongs to the name: "mnist:3.0.1:train" is the train split of mnist, version 3.0.1.

    Raises:
        ValueError: If `name` does not have this form.

    Example:
        >>> parse_name("mnist:train[:80%]")
        ('mnist', 'train[:80%]')
        >>> parse_name("digits")
        ('digits', None)
    """
    match = re.fullmatch(r"([^:\s]+(?::\d+\.(?:\d+|\*)\.(?:\d+|\*))?)(?::(.+))?", name)
    if match is None:
        raise ValueError(
            "`name` must be a TFDS name with or without a split. Received: "
            f'name={name!r}. Examples: "digits", "digits:train".'
        )
    return match[1], match[2]


def find_builder(name: str, *, data_dir: str | None = None) -> Any:
    """Returns the `tfds.core.DatasetBuilder` of a TFDS name, without preparing it.

    Args:
        name: A dataset name of TFDS ("mnist"), or of a builder class that is already imported.
        data_dir: Folder of prepared datasets, local or remote. None is TFDS's default.

    Raises:
        ValueError: If there is no such dataset.
        ImportError: If tensorflow-datasets is not installed.
    """
    library = tfds_library()
    try:
        return library.builder(name, data_dir=data_dir)
    except library.core.DatasetNotFoundError as error:
        raise ValueError(
            "`name` must be a dataset of TensorFlow Datasets. Received: "
            f"name={name!r}. See tfds.list_builders(), or import the module of your own builder."
        ) from error


def fits_in_memory(builder: Any, split: str, *, limit_bytes: int = MEMORY_LIMIT_BYTES) -> bool:
    """Returns whether the decoded examples of `split` all have one shape and fit `limit_bytes`.

    Args:
        builder: A prepared `tfds.core.DatasetBuilder`.
        split: A split or a TFDS slice of one, such as "train[:80%]".
        limit_bytes: Most bytes the arrays of `load_arrays` may take.

    Raises:
        ValueError: If there is no such split, or the dataset has no (input, target) pairs.
    """
    features = _supervised_features(builder)
    if any(size is None for feature in features for size in feature.shape):
        return False
    example_bytes = sum(
        int(np.prod(feature.shape)) * np.dtype(feature.np_dtype).itemsize for feature in features
    )
    return bool(_split_info(builder, split).num_examples * example_bytes <= limit_bytes)


def load_arrays(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads a split into memory in the order of its files, which is the same in every task.

    Args:
        builder: A prepared `tfds.core.DatasetBuilder` for which `fits_in_memory`.
        split: A split or a TFDS slice of one, such as "train[:80%]".

    Returns:
        `(image, label)`: the image's own type (uint8 for images) [examples, H, W, C]; int64
        [examples] for a class label.

    Raises:
        ValueError: If there is no such split, or the dataset has no (input, target) pairs.
    """
    count = _split_info(builder, split).num_examples
    image, label = (
        np.empty((count, *feature.shape), feature.np_dtype)
        for feature in _supervised_features(builder)
    )
    start = 0
    for images, labels in load_dataset(builder, split, batch_size=READ_BATCH_SIZE):
        end = start + len(images)
        image[start:end], label[start:end] = images, labels
        start = end
    if start != count:
        raise ValueError(
            f"`builder` must have the {count} examples of {split!r} that are listed in its "
            f"dataset_info.json. Received: {start} examples. Delete {builder.data_path} and run "
            "again."
        )
    return image, label


def load_dataset(builder: Any, split: str, *, batch_size: int | None = None) -> tf.data.Dataset:
    """Returns a split as a `tf.data.Dataset` of `(image, label)`, in the order of its files.

    Args:
        builder: A prepared `tfds.core.DatasetBuilder`.
        split: A split or a TFDS slice of one, such as "train[:80%]".
        batch_size: Examples per element. None gives single examples.
    """
    _split_info(builder, split)
    _supervised_features(builder)
    options = tf.data.Options()
    options.deterministic = True
    return builder.as_dataset(
        split=split,
        batch_size=batch_size,
        shuffle_files=False,
        as_supervised=True,
        # One file after another. TFDS's default interleaves 16 files.
        read_config=tfds_library().ReadConfig(
            options=options, interleave_cycle_length=1, try_autocache=False
        ),
    )


def image_source(
    name_or_builder: Any,
    split: str | None = None,
    *,
    data_dir: str | None = None,
    is_preparer: bool = True,
    deadline_seconds: float = 600.0,
    limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> tuple[np.ndarray, np.ndarray] | tf.data.Dataset:
    """Prepares a TFDS dataset and returns one split as a source of `input_pipeline`.

    Args:
        name_or_builder: "digits", "digits:train", or a `tfds.core.DatasetBuilder`.
        split: A split or a TFDS slice of one. None uses the split in the name, or else "train".
        data_dir: Folder of prepared datasets, local or remote. None is TFDS's default, or the
            builder's folder.
        is_preparer: See `prepare`.
        deadline_seconds: See `prepare`.
        limit_bytes: Splits up to this many decoded bytes are read into memory.

    Returns:
        `(image, label)` arrays if they fit (see `load_arrays`), else a `tf.data.Dataset` of single
        examples.

    Raises:
        ValueError: If there is no such dataset or split, two splits are given, or `data_dir` is
            passed with a builder.
        TimeoutError: If another task prepares the dataset and has not finished by the deadline.
    """
    if isinstance(name_or_builder, str):
        name, named_split = parse_name(name_or_builder)
        if split is not None and named_split is not None:
            raise ValueError(
                "`split` must not be passed if the name contains one. Received: "
                f"name_or_builder={name_or_builder!r}, split={split!r}. Omit one of them."
            )
        split = split or named_split
        builder = find_builder(name, data_dir=data_dir)
    elif data_dir is not None:
        raise ValueError(
            "`data_dir` must not be passed with a builder, which has its own. Received: "
            f"data_dir={data_dir!r}. Pass it to the builder."
        )
    else:
        builder = name_or_builder
    prepare(builder, is_preparer=is_preparer, deadline_seconds=deadline_seconds)
    split = split or "train"
    if fits_in_memory(builder, split, limit_bytes=limit_bytes):
        return load_arrays(builder, split)
    return load_dataset(builder, split)


def _split_info(builder: Any, split: str) -> Any:
    try:
        return builder.info.splits[split]
    except (ValueError, KeyError) as error:
        names = ", ".join(sorted(builder.info.splits)) or "none: prepare the dataset first"
        raise ValueError(
            "`split` must be a split of the dataset or a TFDS slice of one. Received: "
            f"split={split!r}. {builder.info.full_name} has {names}."
        ) from error


def _supervised_features(builder: Any) -> tuple[Any, Any]:
    keys = builder.info.supervised_keys
    if keys is None or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise ValueError(
            "`builder` must be a dataset of (input, target) pairs. Received: "
            f"{builder.info.full_name} with supervised_keys={keys!r}. Read it with "
            "tfds.load and pass a `tf.data.Dataset` of single examples."
        )
    return builder.info.features[keys[0]], builder.info.features[keys[1]]
