"""MovieLens from TensorFlow Datasets, as rows of a user, an item and whether the user liked it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfscale.data import tfds

LIKED = 4.0
"""The lowest rating, of 0.5 to 5 stars, that counts as liked."""

_TEST_PART = 0.1
_MOST_SCORES = 10**8
_FEATURES = ("user_id", "movie_id", "user_rating")


@dataclass(frozen=True, eq=False)
class MovieLens:
    """Ratings, a tenth of them for testing.

    Attributes:
        users: int32 [rows], in `[0, num_users)`.
        items: int32 [rows], in `[0, num_items)`.
        likes: float32 [rows], 0 or 1.
        num_train: Rows to train on, the first ones.
    """

    users: np.ndarray
    items: np.ndarray
    likes: np.ndarray
    num_train: int

    best_scores = None  # the best ranking is unknown

    @property
    def num_users(self) -> int:
        """Users."""
        return int(self.users.max()) + 1

    @property
    def num_items(self) -> int:
        """Items."""
        return int(self.items.max()) + 1

    @property
    def source(self) -> Any:
        """The source of a pipeline: the rows to train on."""
        train = slice(self.num_train)
        return (self.users[train], self.items[train]), self.likes[train]

    rows = None  # the source has them

    def test_rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns rows for testing: users, items and likes."""
        test = slice(self.num_train, None)
        return self.users[test], self.items[test], self.likes[test]

    @property
    def gains(self) -> np.ndarray:
        """1 for items that a user liked in the rows for testing, float64 [num_users, num_items]."""
        users, items, likes = self.test_rows()
        gains = np.zeros((self.num_users, self.num_items))
        np.maximum.at(gains, (users, items), likes)
        return gains

    def relevant(self, k: int) -> np.ndarray:
        """Returns the items that a user liked, as bool; `k` is not used."""
        return self.gains > 0


def read_movielens(dataset: str, *, data_dir: str | None, seed: int) -> MovieLens:
    """Reads a set of ratings, and selects a tenth at random for testing.

    Args:
        dataset: A TFDS name: "movielens/100k-ratings", "movielens/1m-ratings", or that of another
            set with the features user_id, movie_id and user_rating.
        data_dir: Folder of prepared sets. None means the default of TFDS.
        seed: Seed of the selection. Not negative.

    Raises:
        ValueError: If the set has other features, or too many users and items to rank all of them.
    """
    builder = tfds.find_builder(dataset, data_dir=data_dir)
    missing = [name for name in _FEATURES if name not in (builder.info.features or ())]
    if missing:
        raise ValueError(
            f"`--dataset` must be a set of ratings, with {', '.join(_FEATURES)}. Received: "
            f"--dataset={dataset}, without {', '.join(missing)}. Use movielens/100k-ratings."
        )
    tfds.prepare(builder, is_preparer=True)
    columns: dict[str, list[Any]] = {name: [] for name in _FEATURES}
    # In the order of the files, so that all tasks select the same tenth.
    for batch in builder.as_dataset(split="train", batch_size=1024).as_numpy_iterator():
        for name, parts in columns.items():
            parts.append(batch[name])
    users, items = (
        np.unique(np.concatenate(columns[name]), return_inverse=True)[1].astype(np.int32)
        for name in _FEATURES[:2]
    )
    likes = (np.concatenate(columns["user_rating"]) >= LIKED).astype(np.float32)
    scores = (int(users.max()) + 1) * (int(items.max()) + 1)
    if scores > _MOST_SCORES:
        raise ValueError(
            f"`--dataset` must have at most {_MOST_SCORES:.0e} pairs of a user and an item, which "
            f"are all ranked. Received: --dataset={dataset}, with {scores:.1e}. Use "
            "movielens/1m-ratings."
        )
    order = np.random.default_rng(seed).permutation(len(likes))
    num_train = len(likes) - round(len(likes) * _TEST_PART)
    return MovieLens(users[order], items[order], likes[order], num_train)
