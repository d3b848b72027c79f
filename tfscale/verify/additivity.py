"""How a result of a batch comes from the results of its parts: as a mean, a sum, or not at all.

Replicas compute on parts of a batch, and what they find is put together as a mean weighed by rows.
That gives the result of the whole batch only where

    f(whole) = share * f(head) + (1 - share) * f(tail)

with head and tail two parts of the batch and share the head's part of the rows. Four results tell
what f is instead: of the whole batch, of head and tail, and of the batch with each row twice.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np


class Behaviour(enum.Enum):
    """What a result of a batch is, seen from the results of its parts."""

    MEAN = "a mean over rows"
    SUM = "a sum over rows"
    RATIO = "a ratio whose denominator is counted in the batch"
    WHOLE = "a function of means over the whole batch"
    PAIRS = "a function of how rows of the batch relate to each other"


@dataclass(frozen=True)
class Parts:
    """One result, of a batch and of its parts; arrays of one shape.

    Attributes:
        whole: Of the batch.
        head: Of its first rows.
        tail: Of the other rows.
        twice: Of the batch with each row twice.
        share: The part of the rows that the head holds. In (0, 1).
    """

    whole: np.ndarray
    head: np.ndarray
    tail: np.ndarray
    twice: np.ndarray
    share: float


def behaviour(parts: Parts, tolerance: float) -> Behaviour:
    """Tells how a batch's result comes from those of its parts.

    A mean with a penalty on the weights is a mean; a sum with one is a sum. A ratio is told from
    the rest where the result has at least three entries: a scalar always lies somewhere between.

    Args:
        parts: The results.
        tolerance: Relative difference that counts as rounding. Positive.

    Example:
        >>> rows = np.array([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 4.0]])
        >>> sums = Parts(rows.sum(0), rows[:1].sum(0), rows[1:].sum(0), 2 * rows.sum(0), 1 / 3)
        >>> behaviour(sums, 1e-9)
        <Behaviour.SUM: 'a sum over rows'>
    """
    whole, head, tail, twice = (
        np.asarray(array, np.float64).ravel()
        for array in (parts.whole, parts.head, parts.tail, parts.twice)
    )
    scale = max(np.linalg.norm(array) for array in (whole, head, tail, twice))

    def is_equal(a: np.ndarray, b: np.ndarray) -> bool:
        return bool(np.linalg.norm(a - b) <= tolerance * scale)

    grows = not is_equal(twice, whole)
    if is_equal(whole, parts.share * head + (1 - parts.share) * tail) and not grows:
        return Behaviour.MEAN
    # A sum plus what does not depend on rows, c: whole = S + c, head + tail = S + 2c, twice = 2S+c.
    if grows and is_equal(twice, 3 * whole - head - tail):
        return Behaviour.SUM
    if whole.size >= 3 and not grows and is_equal(whole, _between(whole, head, tail)):
        return Behaviour.RATIO
    return Behaviour.PAIRS if grows else Behaviour.WHOLE


def _between(whole: np.ndarray, head: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """The point on the line through head and tail that is nearest to whole."""
    apart = head - tail
    square = float(apart @ apart)
    at = float((whole - tail) @ apart) / square if square else 0.0
    return np.asarray(tail + at * apart)
