"""The largest batch that fits, found by asking the compiler as few times as bisection needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

COARSENESS = 16
"""Batches are told apart down to a sixteenth of their size: a compilation takes minutes."""

_LARGEST = 2**20


@dataclass(frozen=True)
class LargestBatch:
    """What a search found.

    Attributes:
        rows: Examples of one replica that were seen to fit; 0 if not even one does.
        refused_rows: The fewest that were seen not to fit; None if all that were tried do.
    """

    rows: int
    refused_rows: int | None


def largest_batch(fits: Callable[[int], bool], first: int, *, most: int = _LARGEST) -> LargestBatch:
    """Searches for the largest batch of which `fits` is true.

    Doubles or halves from `first` until the answer changes, then bisects until the two sizes are
    within a sixteenth, or next to each other. What fits is taken to fit when there is less of it.

    Args:
        fits: Whether so many examples fit. Asked at most once of each size.
        first: Examples to begin with, from 1 to `most`.
        most: Examples that are not exceeded.

    Raises:
        ValueError: If `first` is out of range.

    Example:
        >>> largest_batch(lambda rows: rows <= 100, first=8)
        LargestBatch(rows=100, refused_rows=104)
    """
    if not 1 <= first <= most:
        raise ValueError(
            f"`first` must be between 1 and {most}. Received: first={first!r}. Begin with the "
            "batch that you train with."
        )
    low, high = (first, 0) if fits(first) else (0, first)
    while not high:
        if low == most:
            return LargestBatch(low, None)
        tried = min(2 * low, most)
        low, high = (tried, 0) if fits(tried) else (low, tried)
    while not low:
        if high == 1:
            return LargestBatch(0, 1)
        tried = high // 2
        low, high = (tried, high) if fits(tried) else (0, tried)
    while high - low > max(1, low // COARSENESS):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return LargestBatch(low, high)
