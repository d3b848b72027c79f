"""A line chart: one SVG that stretches, with its labels beside it in HTML.

The labels stand outside so that they keep their size: an SVG that is scaled to a phone's width
scales its text too, down to what nobody can read.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

from tfscale.report import numbers
from tfscale.report.record import Curve
from tfscale.report.thinning import bin_width, thinned
from tfscale.report.ticks import LARGEST, Axis, count_axis, value_axis

MOST_BINS = 400  # About one a pixel on a phone, one each two on a desktop.
NUM_COLOURS, NUM_DASHES = 8, 4  # `style` has as many: 32 series differ.

_SIZE = 1000  # Of the SVG's own coordinates, in both directions.
_MOST_DOTS = 40
_MOST_HOVERS = 200
_MOST_GAPS_NAMED = 4

Point = tuple[int, float]


def line_chart(curve: Curve, *, identifier: str) -> str:
    """Draws the series of a curve over a common x.

    NaN and infinity interrupt a line, are shaded and are named below the chart. Of more than
    `2 * MOST_BINS` values the lowest and the highest of each bin are drawn, which is said too.

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
    kind = ", log scale" if y_axis.is_log else ""
    unit = f" ({curve.unit}{kind})" if curve.unit else f" ({kind[2:]})" if kind else ""
    drawn = [_line(series, x_axis, y_axis, _style(n)) for n, series in enumerate(points.values())]
    return "".join(
        [
            f'<figure class="chart"><figcaption>{html.escape(curve.title + unit)}</figcaption>',
            _legend(points),
            '<div class="plot">',
            _labels("y", y_axis),
            f'<svg viewBox="0 0 {_SIZE} {_SIZE}" preserveAspectRatio="none" role="img" '
            f'aria-labelledby="{identifier}-title {identifier}-text">'
            f'<title id="{identifier}-title">{html.escape(f"{curve.title} by {curve.x_name}")}'
            f'</title><desc id="{identifier}-text">{html.escape(_description(curve, points))}'
            "</desc>",
            _grid(x_axis, y_axis),
            *_gap_bands(curve, points, x_axis),
            *drawn,
            *_hovers(curve, points, x_axis),
            "</svg>",
            _labels("x", x_axis),
            f'<p class="x-name" aria-hidden="true">{html.escape(curve.x_name)}</p></div>',
            *(f'<p class="remark">{html.escape(text)}</p>' for text in _remarks(curve, points)),
            "</figure>",
        ]
    )


def _points(curve: Curve, name: str) -> list[Point]:
    """Returns x and y of the values that are there."""
    values = enumerate(curve.series[name])
    return [(curve.first + i * curve.every, y) for i, y in values if y is not None]


def _is_drawable(value: float) -> bool:
    return math.isfinite(value) and abs(value) < LARGEST


def _line(points: Sequence[Point], x_axis: Axis, y_axis: Axis, style: str) -> str:
    values = [y if _is_drawable(y) else math.nan for _, y in points]
    path, dots, before = [], [], None
    kept = thinned(values, most_bins=MOST_BINS)
    for position, (index, value) in enumerate(kept):
        if math.isnan(value):
            before = None
            continue
        x = f"{_SIZE * x_axis.place(points[index][0]):.1f}"
        here = f"{x} {_SIZE * (1 - y_axis.place(value)):.1f}"
        path.append(f"{'M' if before is None else 'L'}{here}")
        is_alone = before is None and (
            position + 1 == len(kept) or math.isnan(kept[position + 1][1])
        )
        if is_alone or len(values) <= _MOST_DOTS:
            # A line of no length with round ends: a dot that stays round when the SVG is stretched.
            dots.append(f"M{here}h0")
        before = here
    marks = f'<path class="{style} dots" d="{"".join(dots)}"/>' if dots else ""
    return (f'<path class="{style}" d="{"".join(path)}"/>' if path else "") + marks


def _style(number: int) -> str:
    return f"line c{number % NUM_COLOURS} d{(number + number // NUM_COLOURS) % NUM_DASHES}"


def _grid(x_axis: Axis, y_axis: Axis) -> str:
    across = (f"M0 {_SIZE * (1 - y_axis.place(t)):.1f}h{_SIZE}" for t in y_axis.ticks)
    up = (f"M{_SIZE * x_axis.place(t):.1f} 0v{_SIZE}" for t in x_axis.ticks)
    return (
        f'<path class="grid" d="{"".join(across)}{"".join(up)}"/>'
        f'<path class="axis" d="M0 0V{_SIZE}H{_SIZE}"/>'
    )


def _labels(direction: str, axis: Axis) -> str:
    side = "bottom" if direction == "y" else "left"
    spans = "".join(
        f'<span style="{side}:{100 * axis.place(tick):.2f}%">{html.escape(label)}</span>'
        for tick, label in zip(axis.ticks, axis.labels, strict=True)
    )
    # One more that nobody sees makes the column as wide as its widest label.
    widest = max(axis.labels, key=len) if axis.labels else "0"
    return f'<div class="{direction}" aria-hidden="true"><b>{html.escape(widest)}</b>{spans}</div>'


def _legend(points: dict[str, list[Point]]) -> str:
    items = []
    for number, (name, series) in enumerate(points.items()):
        value = numbers.number(series[-1][1]) if series else "no value"
        items.append(
            f'<li><svg viewBox="0 0 24 8" aria-hidden="true"><path class="{_style(number)}" '
            f'd="M2 4H22"/></svg>{html.escape(numbers.name(name))} <b>{value}</b></li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _hovers(curve: Curve, points: dict[str, list[Point]], x_axis: Axis) -> Iterable[str]:
    """Yields columns that tell their values to a mouse that rests on them."""
    values: dict[int, list[str]] = {}
    for name, series in points.items():
        for x, y in series:
            text = f"{numbers.name(name)} {numbers.number(y)}"
            values.setdefault(x, []).append(text)
    for x in sorted(values) if len(values) <= _MOST_HOVERS else ():
        text = html.escape(f"{curve.x_name} {x:,}: {', '.join(values[x])}")
        yield _band("hover", x - curve.every / 2, x + curve.every / 2, x_axis, text)


def _band(style: str, start: float, end: float, x_axis: Axis, title: str = "") -> str:
    left = _SIZE * max(0.0, x_axis.place(start))
    width = _SIZE * min(1.0, x_axis.place(end)) - left
    text = f"<title>{title}</title>" if title else ""
    return (
        f'<rect class="{style}" x="{left:.1f}" y="0" width="{width:.1f}" height="{_SIZE}">'
        f"{text}</rect>"
    )


def _gap_bands(curve: Curve, points: dict[str, list[Point]], x_axis: Axis) -> Iterable[str]:
    gaps = sorted({x for series in points.values() for x, y in series if not _is_drawable(y)})
    length = max(map(len, points.values()), default=0)
    joined = curve.every * bin_width(length, most_bins=MOST_BINS)
    for start, end in _runs(gaps, joined):
        yield _band("gap", start - curve.every / 2, end + curve.every / 2, x_axis)


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
        yield f"{length:,} values: drawn are the lowest and the highest of each {width}."


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
