"""How well scores rank: NDCG, recall and AUC, in NumPy.

    ndcg(scores, gains, k=10), recall(scores, relevant, k=10), auc(scores, clicks)

Of equal scores the item with the lower index comes first.
"""

from __future__ import annotations

import numpy as np


def ndcg(scores: np.ndarray, gains: np.ndarray, k: int) -> float:
    """Returns the mean over users of the normalized discounted cumulative gain of the first k.

    A user's DCG is the sum over ranks r = 1 ... k of the gain at rank r by `log2(r + 1)`; NDCG is
    that of the ranking by `scores` over that of the ranking by `gains`. 1 is the best.

    Args:
        scores: float [users, items], higher is earlier.
        gains: float [users, items], not negative. Users without any gain are left out.
        k: Length of the ranking, from 1 to the number of items.

    Raises:
        ValueError: If `k` is out of range, or no user has any gain.

    Example:
        >>> round(ndcg(np.array([[3, 2, 1]]), np.array([[0, 1, 0]]), k=2), 4)
        0.6309

    Source: Järvelin and Kekäläinen 2002, ACM TOIS 20(4), section 2.2, with logarithms of base 2.
    """
    _check_rank(k, scores)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    found = np.take_along_axis(gains, _first(scores, k), axis=1) @ discounts
    best = np.take_along_axis(gains, _first(gains, k), axis=1) @ discounts
    _require(best > 0, "gains")
    return float(np.mean(found[best > 0] / best[best > 0]))


def recall(scores: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Returns the mean over users of the fraction of their relevant items among the first k.

    Args:
        scores: float [users, items], higher is earlier.
        relevant: bool [users, items]. Users without a relevant item are left out.
        k: Length of the ranking, from 1 to the number of items.

    Raises:
        ValueError: If `k` is out of range, or no user has a relevant item.

    Example:
        >>> recall(np.array([[3, 2, 1]]), np.array([[True, False, True]]), k=2)
        0.5
    """
    _check_rank(k, scores)
    found = np.take_along_axis(relevant, _first(scores, k), axis=1).sum(axis=1)
    wanted = relevant.sum(axis=1)
    _require(wanted > 0, "relevant")
    return float(np.mean(found[wanted > 0] / wanted[wanted > 0]))


def auc(scores: np.ndarray, clicks: np.ndarray) -> float:
    """Returns the probability that a row with a click scores higher than one without.

    Equal scores count half. It is the Mann-Whitney statistic over its largest value.

    Args:
        scores: float [rows].
        clicks: [rows], 0 or 1, with at least one of each.

    Raises:
        ValueError: If all rows have clicks, or none has.

    Example:
        >>> auc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0, 0, 1, 1]))
        0.875
    """
    clicked = np.asarray(clicks) > 0
    positives, negatives = int(clicked.sum()), int((~clicked).sum())
    if not positives or not negatives:
        raise ValueError(
            "`clicks` must contain both 0 and 1. Received: "
            f"{positives} of 1, {negatives} of 0. Test with more rows."
        )
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    ranks = mean_ranks[inverse][clicked].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def log_loss(scores: np.ndarray, clicks: np.ndarray) -> float:
    """Returns the mean of `-log P(click)` where P is the sigmoid of the score, in nats.

    Example:
        >>> round(log_loss(np.array([0.0]), np.array([1])), 4)
        0.6931
    """
    return float(np.mean(np.logaddexp(0, scores) - np.asarray(clicks) * scores))


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """Returns `1 / (1 + exp(-score))` without overflow.

    Example:
        >>> sigmoid(np.array([0.0, -1000.0])).tolist()
        [0.5, 0.0]
    """
    return np.asarray(np.exp(-np.logaddexp(0, -scores)))


def _first(scores: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def _check_rank(k: int, scores: np.ndarray) -> None:
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(
            f"`k` must be from 1 to the number of items, {scores.shape[1]}. Received: k={k!r}. "
            "Use a smaller value."
        )


def _require(counted: np.ndarray, name: str) -> None:
    if not counted.any():
        raise ValueError(
            f"`{name}` must be positive for at least one user and item. Received: {name} of only "
            "0. Test with more rows."
        )
