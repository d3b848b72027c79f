"""A folder of images as the set of the image recipe.

image_set = FolderSet("flowers", image_size=64)
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import cast

import numpy as np

from tfscale.data import ImageFolder, image_folder

_SPLITS = ("train", "test")
_TEST_PART = 5  # one image in so many


def has_images(data_dir: str | None) -> bool:
    """Returns whether a folder has a subfolder for each class, or such folders train and test."""
    if data_dir is None or not Path(data_dir).is_dir():
        return False
    folders = [Path(data_dir), *(Path(data_dir, split) for split in _SPLITS)]
    endings = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}
    return any(path.suffix.lower() in endings for f in folders for path in f.glob("*/*"))


class FolderSet:
    """The images of a folder; see `ImageSet`, which has the same attributes.

    If the folder has no subfolders `train` and `test`, a fifth of each class is the split test. It
    depends only on the names of the files.

    Args:
        folder: The folder of `image_folder`, or one with such folders `train` and `test`.
        image_size: Height and width that images are resized to. None: all have one size.
    """

    largest_pixel = 255

    def __init__(self, folder: str, image_size: int | None) -> None:
        self._folder, self._image_size = Path(folder), image_size
        self.name = self._folder.resolve().name

    def prepare(self, *, shows_progress: bool) -> None:
        """Finds the images. Call it after the strategy is built.

        Args:
            shows_progress: Has no effect; finding them takes little time.

        Raises:
            ValueError: If the folder is not as described.
        """
        del shows_progress
        assert self._splits

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of every image."""
        return cast(tuple[int, int, int], tuple(self.read("train").image_shape))

    @property
    def num_classes(self) -> int:
        """Classes."""
        return len(self.class_names)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of their numbers."""
        return list(self.read("train").class_names)

    def num_examples(self, split: str) -> int:
        """Returns how many examples a split has."""
        return self.read(split).num_examples

    def read(self, split: str) -> ImageFolder:
        """Returns the `(image, label)` pairs of a split, as a source of `input_pipeline`."""
        return self._splits[split]

    @functools.cached_property
    def _splits(self) -> dict[str, ImageFolder]:
        folders = [self._folder / split for split in _SPLITS]
        if not any(folder.is_dir() for folder in folders):
            whole = image_folder(self._folder, image_size=self._image_size)
            is_test = _test_images(whole)
            return {
                "train": whole.subset(np.flatnonzero(~is_test)),
                "test": whole.subset(np.flatnonzero(is_test)),
            }
        train, test = (image_folder(folder, image_size=self._image_size) for folder in folders)
        if train.class_names != test.class_names or train.image_shape != test.image_shape:
            raise ValueError(
                "`--data_dir` must have the same classes and sizes in train and test. Received: "
                f"{', '.join(train.class_names)} of {train.image_shape}, and "
                f"{', '.join(test.class_names)} of {test.image_shape}. Complete them, or pass "
                "--image_size."
            )
        return {"train": train, "test": test}


def _test_images(images: ImageFolder) -> np.ndarray:
    """Returns which images are of the split test, bool [num_examples]."""
    is_test = np.zeros(images.num_examples, bool)
    for label, name in enumerate(images.class_names):
        own = np.flatnonzero(images.labels == label)
        if len(own) < 2:
            raise ValueError(
                "`--data_dir` must have at least 2 images of each class, or folders train and "
                f"test. Received: class {name} with 1 image. Add images."
            )
        names = [f"{name}/{Path(images.files[index]).name}" for index in own]
        hashes = [hashlib.sha256(text.encode()).digest() for text in names]
        order = sorted(range(len(own)), key=hashes.__getitem__)
        is_test[own[order[: max(1, len(own) // _TEST_PART)]]] = True
    return is_test
