"""A line chart: one SVG that stretches with the page, and its labels beside it in HTML.

This file computes what is drawn; `templates/chart.html` writes the markup.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
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
_MOST_HOVERS = 200
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
    """

    name: str
    last: str
    style: str
    path: str
    dots: str


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
    drawable = [y for series in points.values() for _, y in series if _is_drawable(y)]
    last = curve.first + curve.every * (max(map(len, curve.series.values()), default=1) - 1)
    x_axis = count_axis(curve.first, max(last, curve.first))
    y_axis = value_axis(drawable, curve.scale)
    unit = ", ".join(part for part in (curve.unit, "log scale" if y_axis.is_log else "") if part)
    return fill(
        "chart.html",
        curve=curve,
        identifier=identifier,
        size=SIZE,
        title=f"{curve.title} ({unit})" if unit else curve.title,
        lines=[
            _line(name, series, x_axis, y_axis, number)
            for number, (name, series) in enumerate(points.items())
        ],
        x_axis=x_axis,
        y_axis=y_axis,
        grid=grid(x_axis, y_axis),
        gaps=list(_gap_bands(curve, points, x_axis)),
        hovers=list(_hovers(curve, points, x_axis)),
        description=_description(curve, points),
        remarks=list(_remarks(curve, points)),
    )


def _points(curve: Curve, name: str) -> list[Point]:
    """Returns x and y of the values that are not missing."""
    values = enumerate(curve.series[name])
    return [(curve.first + i * curve.every, y) for i, y in values if y is not None]


def _is_drawable(value: float) -> bool:
    return math.isfinite(value) and abs(value) < LARGEST


def _line(name: str, points: Sequence[Point], x_axis: Axis, y_axis: Axis, number: int) -> Line:
    values = [y if _is_drawable(y) else math.nan for _, y in points]
    path, dots, before = [], [], None
    kept = thinned(values, most_bins=MOST_BINS)
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
        style=f"line c{number % NUM_COLOURS} d{(number + number // NUM_COLOURS) % NUM_DASHES}",
        path="".join(path),
        dots="".join(dots),
    )


def grid(x_axis: Axis, y_axis: Axis) -> str:
    """Returns data of a path with a line at each tick of both axes."""
    across = (f"M0 {SIZE * (1 - y_axis.place(t)):.1f}h{SIZE}" for t in y_axis.ticks)
    up = (f"M{SIZE * x_axis.place(t):.1f} 0v{SIZE}" for t in x_axis.ticks)
    return "".join([*across, *up])


def _hovers(
    curve: Curve, points: dict[str, list[Point]], x_axis: Axis
) -> Iterator[tuple[_Band, str]]:
    """Yields columns that show their values when the mouse rests on them, and the text."""
    values: dict[int, list[str]] = {}
    for name, series in points.items():
        for x, y in series:
            text = f"{numbers.name(name)} {numbers.number(y)}"
            values.setdefault(x, []).append(text)
    for x in sorted(values) if len(values) <= _MOST_HOVERS else ():
        band = _band(x - curve.every / 2, x + curve.every / 2, x_axis)
        yield band, f"{curve.x_name} {x:,}: {', '.join(values[x])}"


def _band(start: float, end: float, x_axis: Axis) -> _Band:
    left = SIZE * max(0.0, x_axis.place(start))
    width = SIZE * min(1.0, x_axis.place(end)) - left
    return _Band(f"{left:.1f}", f"{width:.1f}")


def _gap_bands(curve: Curve, points: dict[str, list[Point]], x_axis: Axis) -> Iterator[_Band]:
    gaps = sorted({x for series in points.values() for x, y in series if not _is_drawable(y)})
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
        runs = _runs((x for x, y in series if not _is_drawable(y)), curve.every)
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


def _description(curve: Curve, points: dict[str, list[Point]]) -> str:
    sentences = []
    for name, series in points.items():
        finite = [(y, x) for x, y in series if _is_drawable(y)]
        if not finite:
            sentences.append(f"{numbers.name(name)}: no finite value.")
            continue
        low, high = min(finite), max(finite, key=lambda pair: pair[0])
        sentences.append(
            f"{numbers.name(name)}: lowest {numbers.number(low[0])} at "
            f"{curve.x_name} {low[1]:,}, highest {numbers.number(high[0])} at {high[1]:,}, "
            f"last {numbers.number(series[-1][1])}."
        )
    return " ".join(sentences)
