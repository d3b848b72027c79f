"""Balanced cuts against all possible cuts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tfscale.parallel.balance import SLACK, balanced_places


def largest(costs: np.ndarray, places: tuple[int, ...] | list[int]) -> float:
    return max(float(np.sum(part)) for part in np.split(costs, places))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_no_cut_is_faster_and_none_as_fast_needs_less_memory(seed: int, parts: int) -> None:
    draw = np.random.default_rng(seed)
    times, memories = draw.integers(1, 9, 9).astype(float), draw.integers(1, 9, 9).astype(float)
    allowed = sorted(draw.choice(range(1, 9), 6, replace=False).tolist())
    found = balanced_places(times.tolist(), memories.tolist(), allowed, parts)
    assert found is not None
    every = list(itertools.combinations(allowed, parts - 1))
    assert tuple(found) in every
    limit = SLACK * min(largest(times, cut) for cut in every)
    assert largest(times, found) <= limit
    assert largest(memories, found) == min(
        largest(memories, cut) for cut in every if largest(times, cut) <= limit
    )


def test_more_parts_than_places_to_cut_are_impossible() -> None:
    assert balanced_places([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [2], 3) is None
