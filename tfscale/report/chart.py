"""A line chart: one SVG that stretches with the page, and its labels beside it in HTML.

This file computes what is drawn; `templates/chart.html` writes the markup.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tfscale.report import numbers
from tfscale.report.markup import fill
from tfscale.report.record import Curve
from tfscale.report.thinning import bin_width, thinned
from tfscale.report.ticks import LARGEST, Axis, count_axis, value_axis

MOST_BINS = 400  # About one per pixel on a phone, one per two pixels on a desktop.
SIZE = 1000  # Of the SVG's own coordinates, in both directions.
NUM_COLOURS, NUM_DASHES = 8, 4  # As in `templates/style.css`: 32 series differ.

_MOST_DOTS = 40
_MOST_GAPS_NAMED = 4

Point = tuple[int, float]


@dataclass(frozen=True)
class Line:
    """A series as it is drawn.

    Attributes:
        name: The name of the series, in words.
        last: Its last value, as text.
        style: CSS classes of its colour and dashes.
        path: Data of an SVG path through its points; empty without a finite value.
        dots: Data of a path that draws each point as a dot; empty where points are dense.
        points: What is drawn, for a tip with the values.
        is_named: Whether the legend has it.
    """

    name: str
    last: str
    style: str
    path: str
    dots: str
    points: Sequence[tuple[float, float]] = ()
    is_named: bool = True


@dataclass(frozen=True)
class _Band:
    """A column of the chart, over its full height, in the SVG's coordinates."""

    left: str
    width: str


def line_chart(curve: Curve, *, identifier: str) -> Markup:
    """Draws the series of a curve over a common x.

    NaN and infinity interrupt a line, are shaded and are named below the chart. Of more than
    `2 * MOST_BINS` values the lowest and the highest of each bin are drawn, which the chart says.

    Args:
        curve: What to draw.
        identifier: Start of the ids in the HTML, unique on the page.

    Returns:
        A `<figure>`.
    """
    points = {name: _points(curve, name) for name in curve.series}
    drawable = [y for series in points.values() for _, y in series if is_drawable(y)]
    last = curve.first + curve.every * (max(map(len, curve.series.values()), default=1) - 1)
    x_axis = count_axis(curve.first, max(last, curve.first))
    y_axis = value_axis(drawable, curve.scale)
    unit = ", ".join(part for part in (curve.unit, "log scale" if y_axis.is_log else "") if part)
    lines = [
        draw_line(name, series, x_axis, y_axis, style=line_style(number))
        for number, (name, series) in enumerate(points.items())
    ]
    return fill(
        "chart.html",
        curve=curve,
        identifier=identifier,
        size=SIZE,
        title=f"{curve.title} ({unit})" if unit else curve.title,
        lines=lines,
        x_axis=x_axis,
        y_axis=y_axis,
        grid=grid(x_axis, y_axis),
        gaps=list(_gap_bands(curve, points, x_axis)),
        data=tip_data(curve.x_name, x_axis, y_axis, lines),
        description=describe(curve.x_name, points),
        remarks=list(_remarks(curve, points)),
    )


def _points(curve: Curve, name: str) -> list[Point]:
    """Returns x and y of the values that are not missing."""
    values = enumerate(curve.series[name])
    return [(curve.first + i * curve.every, y) for i, y in values if y is not None]


def is_drawable(value: float) -> bool:
    """Returns whether an axis can have this value."""
    return math.isfinite(value) and abs(value) < LARGEST


def line_style(number: int) -> str:
    """Returns CSS classes of the line with this number: 32 of them differ."""
    return f"line c{number % NUM_COLOURS} d{(number + number // NUM_COLOURS) % NUM_DASHES}"


def draw_line(
    name: str,
    points: Sequence[tuple[float, float]],
    x_axis: Axis,
    y_axis: Axis,
    *,
    style: str,
    most_bins: int = MOST_BINS,
    is_named: bool = True,
) -> Line:
    """Draws a series.

    Args:
        name: Of the series.
        points: x and y, in the order of x. NaN and infinity interrupt the line.
        x_axis: With all x.
        y_axis: With all y that can be drawn.
        style: CSS classes.
        most_bins: The lowest and the highest of each are drawn, if there are more points.
        is_named: Whether the legend has it.
    """
    values = [y if is_drawable(y) else math.nan for _, y in points]
    path, dots, before = [], [], None
    kept = thinned(values, most_bins=most_bins)
    for position, (index, value) in enumerate(kept):
        if math.isnan(value):
            before = None
            continue
        x = f"{SIZE * x_axis.place(points[index][0]):.1f}"
        here = f"{x} {SIZE * (1 - y_axis.place(value)):.1f}"
        path.append(f"{'M' if before is None else 'L'}{here}")
        is_single = before is None and (
            position + 1 == len(kept) or math.isnan(kept[position + 1][1])
        )
        if is_single or len(values) <= _MOST_DOTS:
            # A line of no length with round ends: a dot that stays round when the SVG is stretched.
            dots.append(f"M{here}h0")
        before = here
    return Line(
        name=numbers.name(name),
        last=numbers.number(points[-1][1]) if points else "no value",
        style=style,
        path="".join(path),
        dots="".join(dots),
        points=[points[index] for index, _ in kept],
        is_named=is_named,
    )


def tip_data(x_name: str, x_axis: Axis, y_axis: Axis, lines: Iterable[Line]) -> str:
    """Returns what `templates/chart.js` reads values from, as JSON."""
    return json.dumps(
        {
            "x": x_name,
            "xs": (x_axis.low, x_axis.high, x_axis.is_log),
            "ys": (y_axis.low, y_axis.high, y_axis.is_log),
            "lines": [
                {
                    "name": line.name,
                    "x": [x for x, _ in line.points],
                    "y": [_nine_digits(y) for _, y in line.points],
                }
                for line in lines
            ],
        },
        separators=(",", ":"),
    )


def _nine_digits(value: float) -> float | str:
    """Returns what tells every float32 from the next one; JSON has no name for NaN."""
    return float(f"{value:.9g}") if math.isfinite(value) else str(value)


def grid(x_axis: Axis, y_axis: Axis) -> str:
    """Returns data of a path with a line at each tick of both axes."""
    across = (f"M0 {SIZE * (1 - y_axis.place(t)):.1f}h{SIZE}" for t in y_axis.ticks)
    up = (f"M{SIZE * x_axis.place(t):.1f} 0v{SIZE}" for t in x_axis.ticks)
    return "".join([*across, *up])


def _band(start: float, end: float, x_axis: Axis) -> _Band:
    left = SIZE * max(0.0, x_axis.place(start))
    width = SIZE * min(1.0, x_axis.place(end)) - left
    return _Band(f"{left:.1f}", f"{width:.1f}")


def _gap_bands(curve: Curve, points: dict[str, list[Point]], x_axis: Axis) -> Iterator[_Band]:
    gaps = sorted({x for series in points.values() for x, y in series if not is_drawable(y)})
    length = max(map(len, points.values()), default=0)
    joined = curve.every * bin_width(length, most_bins=MOST_BINS)
    for start, end in _runs(gaps, joined):
        yield _band(start - curve.every / 2, end + curve.every / 2, x_axis)


def _runs(xs: Iterable[int], apart: int) -> list[tuple[int, int]]:
    """Returns first and last of each run of values at most `apart` from the next."""
    runs: list[tuple[int, int]] = []
    for x in xs:
        if runs and x - runs[-1][1] <= apart:
            runs[-1] = runs[-1][0], x
        else:
            runs.append((x, x))
    return runs


def _remarks(curve: Curve, points: dict[str, list[Point]]) -> Iterable[str]:
    for name, series in points.items():
        runs = _runs((x for x, y in series if not is_drawable(y)), curve.every)
        if not runs:
            continue
        named = [f"{a:,}" if a == b else f"{a:,} to {b:,}" for a, b in runs[:_MOST_GAPS_NAMED]]
        more = len(runs) - len(named)
        where = ", ".join(named) + (f" and {more} more places" if more else "")
        yield f"Not finite: {numbers.name(name)} at {curve.x_name} {where}."
    length = max(map(len, points.values()), default=0)
    width = bin_width(length, most_bins=MOST_BINS)
    if width > 1:
        yield f"{length:,} values: the chart shows the lowest and the highest of each {width}."


def describe(x_name: str, points: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Returns the range of each series, for a screen reader."""
    sentences = []
    for name, series in points.items():
        finite = [(y, x) for x, y in series if is_drawable(y)]
        if not finite:
            sentences.append(f"{numbers.name(name)}: no finite value.")
            continue
        low, high = min(finite), max(finite, key=lambda pair: pair[0])
        sentences.append(
            f"{numbers.name(name)}: lowest {numbers.number(low[0])} at "
            f"{x_name} {low[1]:,}, highest {numbers.number(high[0])} at {high[1]:,}, "
            f"last {numbers.number(series[-1][1])}."
        )
    return " ".join(sentences)
