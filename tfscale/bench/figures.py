"""The statistics of a race: medians with their range, and ratios per round.

On a shared machine a disturbance usually lasts longer than a turn and slows all variants equally.
The ratio of two turns of the same round is then stable, even where the times are not. So ratios are
computed per round, and the result is the median of these ratios, not the ratio of two medians.
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
    """Returns the median and the range of numbers.

    Args:
        values: Times, ratios or other figures, at least one. Finite.

    Raises:
        ValueError: If `values` is empty, or a value is not finite.

    Example:
        >>> spread([3.0, 1.0, 8.0])
        Spread(median=3.0, low=1.0, high=8.0)
    """
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(
            "`values` must be finite numbers, at least one. Received: "
            f"values={list(values)!r}. Use more steps per turn, or more rounds."
        )
    return Spread(statistics.median(values), min(values), max(values))


def paired_ratios(values: Sequence[float], peers: Sequence[float]) -> list[float]:
    """Divides each round's value by the peer's value of the same round.

    Args:
        values: One value per round.
        peers: The peer's value per round, in the same order. Not 0.

    Raises:
        ValueError: If the numbers of rounds differ.

    Example:
        >>> paired_ratios([2.0, 3.0], [1.0, 2.0])
        [2.0, 1.5]
    """
    if len(values) != len(peers):
        raise ValueError(
            "`peers` must have as many rounds as `values`. Received: "
            f"{len(peers)} and {len(values)}. Pass turns of the same rounds."
        )
    return [value / peer for value, peer in zip(values, peers, strict=True)]
