"""A TFDS set of ratings with MovieLens's features: user "u3" gives movie "m1" 1 + (3 + 1) % 5."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

USERS, MOVIES = 12, 10


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds the set "small_ratings"."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        features = {"movie_id": text, "user_id": text, "user_rating": np.float32}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Any]]]:
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(USERS * MOVIES):
            user, movie = divmod(index, MOVIES)
            rating = 1.0 + (user + movie) % 5
            yield index, {"user_id": f"u{user}", "movie_id": f"m{movie}", "user_rating": rating}
