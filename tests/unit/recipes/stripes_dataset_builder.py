"""A TFDS image set of another shape than the digits: which of 5 pairs of columns is bright?

Each config but "stripes" is one that the recipe cannot train on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

SHAPE, NUM_CLASSES = (12, 10, 3), 5
TRAIN_COUNT, TEST_COUNT = 203, 31


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds the set "stripes"."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012  (the idiom of TFDS)
        tfds.core.BuilderConfig(name=name)
        for name in ("stripes", "train_only", "unlabelled", "any_size", "float")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config.name
        # TFDS takes float images of one channel only.
        shapes = {"any_size": (None, None, 3), "float": (*SHAPE[:2], 1)}
        image = tfds.features.Image(
            shape=shapes.get(config, SHAPE), dtype=np.float32 if config == "float" else np.uint8
        )
        label = tfds.features.ClassLabel(num_classes=NUM_CLASSES)
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"image": image, "label": label}),
            supervised_keys=None if config == "unlabelled" else ("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Any]]]:
        del dl_manager
        splits = {"train": self._generate_examples(TRAIN_COUNT, seed=0)}
        if self.builder_config.name != "train_only":
            splits["test"] = self._generate_examples(TEST_COUNT, seed=1)
        return splits

    def _generate_examples(self, count: int, *, seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
        random = np.random.default_rng(seed)
        for index in range(count):
            label = index % NUM_CLASSES
            image = random.integers(0, 100, SHAPE)
            image[:, 2 * label : 2 * label + 2] += 150
            if self.builder_config.name == "float":
                yield index, {"image": image[:, :, :1].astype(np.float32), "label": label}
            else:
                yield index, {"image": image.astype(np.uint8), "label": label}
