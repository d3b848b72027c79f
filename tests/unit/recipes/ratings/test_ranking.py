"""Ranking metrics against numbers calculated by hand and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.ratings import ranking

# Two users, four items. By score user 0 sees items 2, 0, 3, 1 and user 1 items 0, 1, 2, 3.
SCORES = np.array([[2.0, -1.0, 3.0, 0.0], [1.0, 1.0, 0.5, 0.5]])


def test_ndcg_is_that_worked_by_hand() -> None:
    gains = np.array([[1.0, 2.0, 0.0, 4.0], [0.0, 0.0, 0.0, 3.0]])
    # User 0: 0 + 1 / log2(3) + 4 / 2, where 4 + 2 / log2(3) + 1 / 2 is the best. User 1: nothing.
    expected = (1 / np.log2(3) + 2) / (4 + 2 / np.log2(3) + 0.5) / 2
    assert ranking.ndcg(SCORES, gains, k=3) == pytest.approx(expected, abs=1e-15)


def test_the_ranking_by_the_gains_is_the_best() -> None:
    gains = np.random.default_rng(0).random((5, 9))
    assert ranking.ndcg(np.log(gains), gains, k=4) == 1.0
    assert ranking.ndcg(-gains, gains, k=4) < 0.9


def test_recall_is_that_worked_by_hand() -> None:
    relevant = np.array([[True, True, False, False], [True, False, True, True]])
    # User 0: item 0 of two; user 1: item 0 of three.
    assert ranking.recall(SCORES, relevant, k=2) == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_users_without_relevant_items_are_left_out() -> None:
    gains = np.array([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert ranking.ndcg(SCORES, gains, k=1) == 1.0
    assert ranking.recall(SCORES, gains > 0, k=1) == 1.0


def test_auc_is_the_fraction_of_pairs_in_the_right_order() -> None:
    random = np.random.default_rng(1)
    scores, clicks = random.integers(0, 9, 60), random.integers(0, 2, 60)
    pairs = [
        (scores[i] > scores[j]) + (scores[i] == scores[j]) / 2
        for i in np.flatnonzero(clicks)
        for j in np.flatnonzero(clicks == 0)
    ]
    assert ranking.auc(scores, clicks) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auc_of_normal_scores_is_the_closed_form() -> None:
    # Scores N(1, 1) of clicks and N(0, 1) of others: Phi(1 / sqrt(2)) = 0.76025.
    random = np.random.default_rng(2)
    scores = np.concatenate([random.normal(1, 1, 100_000), random.normal(0, 1, 100_000)])
    clicks = np.repeat([1, 0], 100_000)
    assert ranking.auc(scores, clicks) == pytest.approx(0.76025, abs=0.005)


def test_the_loss_of_extreme_scores_is_finite() -> None:
    assert ranking.log_loss(np.array([800.0, -800.0]), np.array([0, 0])) == 400.0


@pytest.mark.parametrize("k", [0, 5])
def test_ranks_that_do_not_exist_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match="`k` must be from 1 to the number of items, 4"):
        ranking.ndcg(SCORES, np.ones((2, 4)), k)


@pytest.mark.parametrize("clicks", [[0, 0], [1, 1]])
def test_auc_of_a_single_class_is_refused(clicks: list[int]) -> None:
    with pytest.raises(ValueError, match="`clicks` must contain both 0 and 1"):
        ranking.auc(np.array([1.0, 2.0]), np.array(clicks))
