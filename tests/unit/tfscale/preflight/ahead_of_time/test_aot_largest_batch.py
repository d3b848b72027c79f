"""The search for the largest batch, for every possible capacity."""

from __future__ import annotations

import math

import pytest

from tfscale.preflight.ahead_of_time.fitting import LargestBatch, largest_batch


def searched(capacity: int, first: int, most: int = 2**20) -> tuple[LargestBatch, list[int]]:
    settings: list[int] = []

    def fits(rows: int) -> bool:
        settings.append(rows)
        return rows <= capacity

    return largest_batch(fits, first, most=most), settings


@pytest.mark.parametrize("first", [1, 8, 100])
def test_what_is_found_fits_and_a_sixteenth_more_does_not(first: int) -> None:
    for capacity in range(1, 700):
        found, _ = searched(capacity, first)
        assert found.refused_rows is not None
        assert found.rows <= capacity < found.refused_rows
        assert found.refused_rows - found.rows <= max(1, found.rows // 16)


def test_no_size_is_asked_twice_and_few_are_asked() -> None:
    for capacity in range(1, 700):
        _, settings = searched(capacity, first=8)
        assert len(settings) == len(set(settings))
        # One question a doubling or halving, and four for a sixteenth.
        assert len(settings) <= abs(math.log2(capacity / 8)) + 7


def test_not_even_one_example_may_fit() -> None:
    assert searched(0, first=8)[0] == LargestBatch(rows=0, refused_rows=1)


def test_the_search_ends_at_the_most_there_may_be() -> None:
    assert searched(10**9, first=8, most=100) == (LargestBatch(100, None), [8, 16, 32, 64, 100])


@pytest.mark.parametrize("first", [0, -1, 101])
def test_an_impossible_beginning_is_refused(first: int) -> None:
    with pytest.raises(ValueError, match=r"`first` must be between 1 and 100\. Received"):
        largest_batch(lambda _: True, first, most=100)
