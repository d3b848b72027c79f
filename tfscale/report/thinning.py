"""Fewer points to draw, without losing a peak."""

from __future__ import annotations

import math
from collections.abc import Sequence


def thinned(values: Sequence[float], *, most_bins: int) -> list[tuple[int, float]]:
    """Returns the points that keep the shape: the lowest and the highest of each bin.

    Bins are runs of neighbouring values, all of one length except the last. The first and the last
    value are always kept. Of a bin with values that are not finite, the first of them is kept too,
    so that a gap stays a gap. Up to `2 * most_bins` values are all kept.

    Args:
        values: Values in order; NaN and infinity are gaps.
        most_bins: The largest number of bins. Positive.

    Returns:
        Index and value of each point that is kept, in order of index.

    Example:
        >>> thinned([0, 1, 9, 2, 3, 4, -5, 5], most_bins=2)
        [(0, 0), (2, 9), (6, -5), (7, 5)]
    """
    if len(values) <= 2 * most_bins:
        return list(enumerate(values))
    width = bin_width(len(values), most_bins=most_bins)
    kept = {0, len(values) - 1}
    for start in range(0, len(values), width):
        part = values[start : start + width]
        if math.isfinite(sum(part)):  # the quick case: there may be millions
            kept.add(start + part.index(min(part)))
            kept.add(start + part.index(max(part)))
            continue
        members = range(start, start + len(part))
        finite = [index for index in members if math.isfinite(values[index])]
        if finite:
            kept.add(min(finite, key=values.__getitem__))
            kept.add(max(finite, key=values.__getitem__))
        if len(finite) < len(members):
            kept.add(next(index for index in members if not math.isfinite(values[index])))
    return [(index, values[index]) for index in sorted(kept)]


def bin_width(count: int, *, most_bins: int) -> int:
    """Returns how many values share a bin; 1 if all of them are drawn."""
    return 1 if count <= 2 * most_bins else -(-count // most_bins)
