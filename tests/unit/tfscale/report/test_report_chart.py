from __future__ import annotations

import math
import random
import re

import pytest

from tfscale.report.chart import MOST_BINS, line_chart
from tfscale.report.record import Curve
from tfscale.report.thinning import bin_width, thinned
from tfscale.report.ticks import Axis, count_axis, value_axis


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        pytest.param([0.03, 2.23], "0.0 0.5 1.0 1.5 2.0 2.5", id="a loss"),
        pytest.param([0.9, 0.99], "0.90 0.92 0.94 0.96 0.98 1.00", id="an accuracy"),
        pytest.param([0.0, 3e-3], "0.000 0.001 0.002 0.003", id="a rate"),
        pytest.param([0.0, 1.5e-4], "0 5e-5 1.0e-4 1.5e-4", id="a small rate"),
        pytest.param([0, 7e6], "0 2e6 4e6 6e6 8e6", id="millions"),
        pytest.param([-3.0, 4.0], "-4 -2 0 2 4", id="both signs"),
        pytest.param([7.0], "6.0 6.5 7.0 7.5 8.0", id="one value is in the middle"),
        pytest.param([], "0.0 0.2 0.4 0.6 0.8 1.0", id="no value"),
        pytest.param([2e-5, 3.0], "1e-5 0.001 0.1 10", id="six decades are logarithmic"),
        pytest.param([0.0, 1.0, 2000.0], "0 500 1,000 1,500 2,000", id="zero is never so"),
    ],
)
def test_ticks_are_round_numbers_around_the_values(values: list[float], labels: str) -> None:
    assert " ".join(value_axis(values).labels) == labels


@pytest.mark.parametrize(
    ("first", "last", "labels"),
    [
        (1, 40, "10 20 30 40"),
        (1, 3, "1 2 3"),
        (1, 1, "1"),
        (11, 16, "11 12 13 14 15 16"),
        (1, 10_000, "2k 4k 6k 8k 10k"),
        (1, 7_500, "2,000 4,000 6,000"),
        (0, 50_000_000, "0 10M 20M 30M 40M 50M"),
    ],
)
def test_ticks_of_counts_are_whole(first: int, last: int, labels: str) -> None:
    assert " ".join(count_axis(first, last).labels) == labels


def test_an_axis_contains_values_of_any_size() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        size = 10.0 ** draw.randint(-290, 290)
        values = [size * draw.uniform(-1, 1) for _ in range(draw.randint(1, 4))]
        values = [abs(v) for v in values] if draw.random() < 0.5 else values
        axis = value_axis(values, draw.choice(["auto", "linear", "log"]))
        assert all(0 <= axis.place(value) <= 1 for value in values), values
        assert len(axis.ticks) <= 12, values
        assert list(axis.ticks) == sorted(set(axis.ticks)), values
        assert len(set(axis.labels)) == len(axis.labels) or max(values) - min(values) < size * 1e-3


def test_equal_ratios_are_equal_distances_on_a_log_axis() -> None:
    axis = Axis(0.01, 100.0, (), (), is_log=True)
    assert [axis.place(v) for v in (0.01, 0.1, 1.0, 10.0, 100.0)] == pytest.approx(
        [0, 0.25, 0.5, 0.75, 1]
    )


def test_thinning_keeps_the_extremes_of_every_bin() -> None:
    draw = random.Random(1)
    for count in (1, 7, 8, 9, 1000, 1003):
        values = [draw.gauss(0, 1) for _ in range(count)]
        kept = thinned(values, most_bins=4)
        assert all(values[index] == value for index, value in kept)
        assert [index for index, _ in kept] == sorted({index for index, _ in kept})
        assert (kept[0][0], kept[-1][0]) == (0, count - 1)
        width = bin_width(count, most_bins=4)
        of_kept = dict(kept)
        for start in range(0, count, width):
            members = range(start, min(start + width, count))
            inside = [of_kept[index] for index in members if index in of_kept]
            assert (min(inside), max(inside)) == (
                min(values[index] for index in members),
                max(values[index] for index in members),
            )
        assert len(kept) <= 2 * 4 + 2


def test_thinning_leaves_a_gap_a_gap() -> None:
    values = [float(n) for n in range(1000)]
    values[500] = math.nan
    kept = thinned(values, most_bins=10)
    assert [index for index, value in kept if math.isnan(value)] == [500]


def drawn(curve: Curve) -> str:
    return line_chart(curve, identifier="c")


def line_path(chart: str, number: int = 0) -> str:
    # The first path of this style is in the legend.
    found = re.findall(rf'<path class="line c{number} d{number}" d="([^"]*)"/>', chart)[1:]
    assert found
    return str(found[0])


def test_points_are_drawn_at_their_values() -> None:
    # y from 0 to 4 and x from 1 to 3, on 1000 by 1000, y downward: by hand.
    chart = drawn(Curve("loss", {"training": [0.0, 4.0, 1.0]}))
    assert line_path(chart) == "M0.0 1000.0L500.0 0.0L1000.0 750.0"


def test_nan_interrupts_the_line_and_is_named() -> None:
    nan = math.nan
    chart = drawn(Curve("loss", {"training": [0.0, 4.0, nan, 1.0, 2.0, math.inf]}, first=11))
    assert line_path(chart) == "M0.0 1000.0L200.0 0.0M600.0 750.0L800.0 500.0"
    assert "Not finite: training at step 13, 16." in chart
    # Half a step to each side, cut at the edge.
    assert '<rect class="gap" x="300.0" y="0" width="200.0"' in chart
    assert '<rect class="gap" x="900.0" y="0" width="100.0"' in chart


def test_a_missing_value_is_bridged_and_is_not_a_gap() -> None:
    chart = drawn(Curve("loss", {"validation": [None, 0.0, None, 4.0]}, x_name="epoch"))
    assert line_path(chart) == "M333.3 1000.0L1000.0 0.0"
    assert "Not finite" not in chart


def test_a_single_point_is_a_dot() -> None:
    many = [math.nan] * 100
    many[50] = 1.0
    assert 'dots" d="M505.1 500.0h0"' in drawn(Curve("loss", {"training": many}))
    assert 'dots" d="M500.0 500.0h0"' in drawn(Curve("loss", {"training": [0.25]}))


def test_ten_thousand_points_are_thinned_and_the_chart_says_so() -> None:
    draw = random.Random(2)
    values = [draw.uniform(1, 2) for _ in range(10_000)]
    values[4321] = 3.0
    chart = drawn(Curve("loss", {"training": values}, scale="linear"))
    assert "10,000 values: the chart shows the lowest and the highest of each 25." in chart
    path = line_path(chart)
    assert path.count("L") <= 2 * MOST_BINS + 2
    assert " 0.0" in path  # The spike reaches the top.
    assert len(chart) < 30_000


@pytest.mark.parametrize("values", [[], [math.nan], [None], [1e308, -1e308]])
def test_nothing_to_draw_is_an_empty_chart(values: list[float | None]) -> None:
    chart = drawn(Curve("loss", {"training": values}))
    assert '<path class="axis"' in chart
    assert 'd="M0.0' not in chart


def test_a_screen_reader_gets_the_range() -> None:
    chart = drawn(Curve("loss", {"val_loss": [2.0, 0.5, 1.0]}, x_name="epoch"))
    assert "val loss: lowest 0.5000 at epoch 2, highest 2.000 at 1, last 1.000." in chart
