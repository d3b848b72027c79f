"""The reader of MovieLens, on a small set with the same features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tests.unit.recipes.small_ratings_dataset_builder  # noqa: F401  (registers the name)
from recipes.ratings.movielens import MovieLens, read_movielens


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> MovieLens:
    folder: Path = tmp_path_factory.mktemp("prepared")
    return read_movielens("small_ratings", data_dir=str(folder), seed=0)


def test_four_stars_are_liked(ratings: MovieLens) -> None:
    assert (ratings.num_users, ratings.num_items) == (12, 10)
    # Sorted as text: "u0", "u1", "u10", "u11", "u2", ...
    users = np.array(sorted(range(12), key=str))[ratings.users]
    stars = 1 + (users + ratings.items) % 5
    np.testing.assert_array_equal(ratings.likes, stars >= 4)


def test_a_tenth_is_held_out_and_no_row_is_lost(ratings: MovieLens) -> None:
    (users, items), _ = ratings.source
    test_users, test_items, _ = ratings.test_rows()
    assert (len(users), len(test_users)) == (108, 12)
    pairs = [*zip(users, items, strict=True), *zip(test_users, test_items, strict=True)]
    assert len(set(pairs)) == 120


def test_relevant_items_are_those_liked_in_the_held_out_rows(ratings: MovieLens) -> None:
    users, items, likes = ratings.test_rows()
    liked = set(zip(users[likes > 0], items[likes > 0], strict=True))
    assert set(zip(*np.nonzero(ratings.relevant(10)), strict=True)) == liked
    assert ratings.gains.sum() == len(liked) > 0
    assert ratings.best_scores is None
