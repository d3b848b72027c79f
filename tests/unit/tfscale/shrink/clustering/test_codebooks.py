"""Codebooks by k-means, beside the plain algorithm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfscale.shrink.clustering.codebooks import clustered

DRAW = np.random.default_rng(4)


def plain_k_means(numbers: Any, num_clusters: int) -> Any:
    """Lloyd's algorithm by distances, from values at equal distances."""
    values = np.linspace(numbers.min(), numbers.max(), num_clusters)
    for _ in range(1000):
        nearest = np.abs(numbers[:, None] - values).argmin(axis=1)
        means = [
            numbers[nearest == k].mean() if np.any(nearest == k) else values[k]
            for k in range(num_clusters)
        ]
        if np.array_equal(means, values):
            break
        values = np.array(means)
    return values[np.unique(nearest)][np.searchsorted(np.unique(nearest), nearest)]


@pytest.mark.parametrize("num_clusters", [1, 2, 16, 200])
def test_values_are_those_of_the_plain_algorithm(num_clusters: int) -> None:
    numbers = DRAW.normal(size=2000)
    values, places = clustered(numbers, num_clusters)
    expected = plain_k_means(numbers, num_clusters)
    np.testing.assert_allclose(values[places], expected, rtol=1e-9, atol=1e-12)
    assert len(values) <= num_clusters + 1
    assert np.all(np.diff(values[1:]) > 0)


def test_zeros_and_only_they_have_the_value_zero() -> None:
    weights = DRAW.normal(size=[20, 30]) * (DRAW.uniform(size=[20, 30]) < 0.3)
    values, places = clustered(weights, 4)
    assert values[0] == 0
    np.testing.assert_array_equal(places == 0, weights == 0)


def test_few_values_are_kept_as_they_are() -> None:
    weights = DRAW.choice([-1.5, -1.49, 0.0, 0.25, 7.0], size=[6, 50]).astype("float32")
    values, places = clustered(weights, 4)
    np.testing.assert_array_equal(values[places].astype("float32"), weights)


def test_a_weight_of_zeros_has_no_other_value() -> None:
    values, places = clustered(np.zeros([2, 2]), 3)
    assert values.tolist() == [0.0]
    assert not places.any()
