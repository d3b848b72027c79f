from __future__ import annotations

import math

import pytest

from tfscale.bench.figures import Spread, paired_ratios, spread


def test_a_spread_is_the_middle_and_the_range() -> None:
    assert spread([5.0, 1.0, 2.0]) == Spread(median=2.0, low=1.0, high=5.0)
    assert spread([4.0, 1.0, 2.0, 9.0]) == Spread(median=3.0, low=1.0, high=9.0)


def test_the_median_of_ratios_is_not_the_ratio_of_medians() -> None:
    # Rounds 2/1, 9/3 and 4/4; the medians are 4 and 3.
    assert spread(paired_ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])) == Spread(2.0, 1.0, 3.0)


def test_a_disturbance_of_a_whole_round_leaves_the_ratio() -> None:
    disturbed = [1.0, 10.0, 1.0]
    assert paired_ratios([1.5 * d for d in disturbed], [2.0 * d for d in disturbed]) == [0.75] * 3


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_values_that_are_not_finite_raise(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"`values` must be finite numbers"):
        spread(values)


def test_different_numbers_of_rounds_raise() -> None:
    with pytest.raises(ValueError, match=r"`peers` must have as many rounds .* 1 and 2\."):
        paired_ratios([1.0, 2.0], [1.0])
