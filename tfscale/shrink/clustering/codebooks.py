"""Codebooks: a few values for the numbers of a weight, by k-means.

Numbers on a line are in the cluster of the nearest value, so clusters are ranges between sorted
numbers, and a round of k-means takes k searches in them.

Source: Lloyd 1982, "Least squares quantization in PCM"; values at equal distances at first: Han et
al. 2016, arXiv:1510.00149, section 3.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_MOST_ROUNDS = 300


def clustered(weights: Array, num_clusters: int) -> tuple[Array, Array]:
    """Finds the values that are nearest to a weight's numbers.

    Args:
        weights: Of any shape.
        num_clusters: The most values, besides zero. At least 1.

    Returns:
        The values, ascending, [1 + at most num_clusters]; the first is zero. And by number the
        place of its value: 0 for numbers that are zero, and only for them.

    Example:
        >>> values, places = clustered(np.array([0.0, 0.9, 1.1, -2.0]), 2)
        >>> values.tolist(), places.tolist()
        ([0.0, -2.0, 1.0], [0, 2, 2, 1])
    """
    numbers = np.asarray(weights, "float64")
    is_zero = numbers == 0
    ordered = np.sort(numbers[~is_zero])
    values = np.unique(ordered)
    if len(values) > num_clusters:
        values = _means(ordered, num_clusters)
    places = np.zeros(numbers.shape, "int32")
    edges = (values[1:] + values[:-1]) / 2
    places[~is_zero] = 1 + np.searchsorted(edges, numbers[~is_zero], side="right")
    return np.concatenate([[0.0], values]), places


def _means(ordered: Array, num_clusters: int) -> Array:
    """Returns the values of k-means for sorted numbers; of clusters without a number none."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    values = np.linspace(ordered[0], ordered[-1], num_clusters)
    before: Array | None = None
    for _ in range(_MOST_ROUNDS):
        edges = (values[1:] + values[:-1]) / 2
        bounds = np.concatenate([[0], np.searchsorted(ordered, edges), [len(ordered)]])
        if before is not None and np.array_equal(bounds, before):
            break
        before, counts = bounds, np.diff(bounds)
        has_any = counts > 0
        values[has_any] = np.diff(sums[bounds])[has_any] / counts[has_any]
    assert before is not None
    return values[np.diff(before) > 0]
