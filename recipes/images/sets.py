"""Image sets of TensorFlow Datasets, checked before anything is downloaded or trained.

image_set = find_image_set("digits", data_dir=None)
image_set.prepare(shows_progress=True)
train = image_set.read("train")
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

import recipes.digits.digits_dataset_builder  # noqa: F401  (registers the name "digits")
from recipes.images.folder import FolderSet, has_images
from tfscale.data import tfds

# Only sets whose pixels do not use the full range of their type.
_LARGEST_PIXEL = {"digits": 16}


@dataclass(frozen=True)
class ImageSet:
    """A set of (image, class label) pairs.

    Attributes:
        builder: The `tfds.core.DatasetBuilder`.
        image_shape: `(height, width, channels)` of every image.
        num_classes: Classes. Positive.
        largest_pixel: The value of a white pixel.
    """

    builder: Any
    image_shape: tuple[int, int, int]
    num_classes: int
    largest_pixel: int

    def prepare(self, *, shows_progress: bool) -> None:
        """Downloads and writes the set if needed, in one task per file system.

        Args:
            shows_progress: Whether this process shows a progress bar.

        Raises:
            ValueError: If the set has no split "train" or no split "test".
        """
        # Without a terminal, a bar becomes a screenful of lines.
        if not (shows_progress and sys.stderr.isatty()):
            tfds.tfds_library().disable_progress_bar()
        # Standard output is for results.
        with contextlib.redirect_stdout(sys.stderr):
            tfds.prepare(self.builder, is_preparer=True)
        splits = sorted(self.builder.info.splits)
        if not {"train", "test"} <= set(splits):
            raise ValueError(
                "`--dataset` must be a set with the splits train and test. Received: "
                f"--dataset={self.builder.info.name}, which has {', '.join(splits)}. "
                "Choose another set."
            )

    @property
    def name(self) -> str:
        """The name of the set."""
        return str(self.builder.info.name)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of their numbers."""
        _, label = self.builder.info.supervised_keys
        return list(self.builder.info.features[label].names)

    def num_examples(self, split: str) -> int:
        """Returns how many examples a split of the prepared set has."""
        return int(self.builder.info.splits[split].num_examples)

    def read(self, split: str) -> tuple[np.ndarray, np.ndarray] | tf.data.Dataset:
        """Returns the `(image, label)` pairs of a split, as a source of `input_pipeline`."""
        return tfds.image_source(self.builder, split)


AnyImageSet = ImageSet | FolderSet


def find_image_set(
    dataset: str | None, *, data_dir: str | None, image_size: int | None = None
) -> AnyImageSet:
    """Finds a set and checks that the recipe can train on it.

    Args:
        dataset: A TFDS name such as "mnist", that of a builder class imported before, or that of a
            prepared set in `data_dir`. None: the images of `data_dir`, if it has a folder for each
            class, else "digits".
        data_dir: Folder of prepared sets, local or remote, or of images. None is TFDS's own.
        image_size: Height and width that the images of a folder are resized to. None does not.

    Raises:
        ValueError: If there is no such set, or its examples are not images of one size with a
            class label.
    """
    if dataset is None and data_dir is not None and has_images(data_dir):
        return FolderSet(data_dir, image_size)
    if image_size is not None:
        raise ValueError(
            "`--image_size` must not be set, unless --data_dir has a folder of images for each "
            f"class and --dataset is not set. Received: --image_size={image_size}, --data_dir="
            f"{data_dir or 'not set'}, --dataset={dataset or 'not set'}. Omit one."
        )
    dataset = "digits" if dataset is None else dataset
    try:
        builder = tfds.find_builder(dataset, data_dir=data_dir)
    except (ValueError, AssertionError, tf.errors.OpError) as error:
        # TFDS asserts that the set has the version asked for.
        raise ValueError(
            "`--dataset` must be digits, a set of the TensorFlow Datasets catalogue, or one that "
            f"is prepared in --data_dir. Received: --dataset={dataset}, "
            f"--data_dir={data_dir or 'not set'}. Check the spelling, and --data_dir."
        ) from error
    info, features = builder.info, tfds.tfds_library().features
    keys = info.supervised_keys or ()
    pair = [info.features[key] for key in keys if isinstance(key, str)]
    kinds = (features.Image, features.ClassLabel)
    if len(pair) != 2 or not all(map(isinstance, pair, kinds)):
        raise ValueError(
            "`--dataset` must be a set of images with a class label each. Received: "
            f"--dataset={dataset}, whose supervised_keys are {info.supervised_keys!r}. Choose an "
            "image classification set."
        )
    image, label = pair
    if None in image.shape or image.np_dtype not in (np.uint8, np.uint16):
        raise ValueError(
            "`--dataset` must be a set of images of one size, in uint8 or uint16. Received: "
            f"--dataset={dataset}, with images of shape {image.shape} in "
            f"{np.dtype(image.np_dtype).name}. Write a resized copy, or choose another set."
        )
    return ImageSet(
        builder=builder,
        image_shape=image.shape,
        num_classes=label.num_classes,
        largest_pixel=_LARGEST_PIXEL.get(info.name, int(np.iinfo(image.np_dtype).max)),
    )
