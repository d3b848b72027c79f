"""The bundled handwritten digits as a TensorFlow Datasets builder.

    import tensorflow_datasets as tfds
    import recipes.digits.digits_dataset_builder  # registers the name "digits"

    builder = tfds.builder("digits", data_dir="/tmp/data")
    builder.download_and_prepare()

Nothing is downloaded: the images are in this folder. README.md gives their origin and licence.
"""

from __future__ import annotations

import csv
import gzip
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

FOLDER = pathlib.Path(__file__).parent


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds the TFDS set "digits": image uint8 [8, 8, 1] in 0..16, label 0..9, train and test."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "1.0.0": "The 1,797 test images of the UCI set, split by test_indices.txt."
    }

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://doi.org/10.24432/C50P49",
            license="CC BY 4.0",
            # Examples stay in the order of the source file, so that row i can be looked up there.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # Nothing to download.
        test = {int(line) for line in (FOLDER / "test_indices.txt").read_text().split()}
        return {
            "train": self._generate_examples(test, is_test=False),
            "test": self._generate_examples(test, is_test=True),
        }

    def _generate_examples(
        self, test: set[int], *, is_test: bool
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        with gzip.open(FOLDER / "digits.csv.gz", "rt", newline="") as stream:
            for index, row in enumerate(csv.reader(stream)):
                if (index in test) == is_test:
                    pixels = np.array(row[:-1], np.uint8).reshape(8, 8, 1)
                    yield index, {"image": pixels, "label": int(row[-1])}
