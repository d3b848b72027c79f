"""The arithmetic of a race: medians with their range, and ratios round by round.

On a machine that others use too, a disturbance lasts longer than a turn and strikes peers
alike: the quotient of two turns of the same round holds still where both times do not. So ratios
are taken pair by pair, and the median of them is told, not the ratio of two medians.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A median and the range around it.

    Attributes:
        median: The middle value, or the mean of the two in the middle.
        low: The smallest value.
        high: The largest value.
    """

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Returns the median and the range of positive numbers.

    Args:
        values: Times or ratios, at least one. Positive and finite.

    Raises:
        ValueError: If there is none, or one is not positive and finite.

    Example:
        >>> spread([3.0, 1.0, 8.0])
        Spread(median=3.0, low=1.0, high=8.0)
    """
    if not values or not all(value > 0 and math.isfinite(value) for value in values):
        raise ValueError(
            "`values` must be positive, finite numbers, at least one. Received: "
            f"values={list(values)!r}. Take more steps in a turn, or more rounds."
        )
    return Spread(statistics.median(values), min(values), max(values))


def paired_ratios(values: Sequence[float], peers: Sequence[float]) -> list[float]:
    """Divides each round's value by the peer's of the same round.

    Args:
        values: One a round.
        peers: One a round, in the same order. Not 0.

    Raises:
        ValueError: If the rounds are not equally many.

    Example:
        >>> paired_ratios([2.0, 3.0], [1.0, 2.0])
        [2.0, 1.5]
    """
    if len(values) != len(peers):
        raise ValueError(
            "`peers` must hold as many rounds as `values`. Received: "
            f"{len(peers)} and {len(values)}. Pair turns of the same rounds."
        )
    return [value / peer for value, peer in zip(values, peers, strict=True)]
