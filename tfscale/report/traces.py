"""A line chart of many series, each with its own x: workers side by side, runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tfscale.report import numbers
from tfscale.report.chart import (
    MOST_BINS,
    SIZE,
    describe,
    draw_line,
    grid,
    is_drawable,
    line_style,
    tip_data,
)
from tfscale.report.markup import fill
from tfscale.report.record import Scale
from tfscale.report.ticks import count_axis, value_axis

MOST_NAMED = 8
"""Series with a colour and a place in the legend; more are grey, and the tip names them."""

_LEAST_BINS = 12
_MOST_POINTS = 3_000  # of a chart; about 100 kB


@dataclass(frozen=True)
class Trace:
    """A series.

    Attributes:
        name: In the legend and the tip.
        points: x and y, ascending in x.
        number: Of its colour and dashes, or None for grey.
    """

    name: str
    points: Sequence[tuple[float, float]]
    number: int | None = None


@dataclass(frozen=True)
class Axes:
    """What a chart of traces says beside the lines.

    Attributes:
        title: What y is.
        x_name: What x is, in the singular.
        unit: Of y.
        scale: Of the y axis, as in `Curve`.
        remarks: Sentences below.
    """

    title: str
    x_name: str = "step"
    unit: str = ""
    scale: Scale = "auto"
    remarks: Sequence[str] = ()


def trace_chart(axes: Axes, traces: Sequence[Trace], *, identifier: str) -> Markup:
    """Draws series; of long ones the lowest and the highest value of each bin.

    Args:
        axes: Titles and scale.
        traces: In the order of drawing; those without a colour are drawn first.
        identifier: Start of the ids in the HTML, unique on the page.

    Returns:
        A `<figure>`.
    """
    xs = [x for each in traces for x, _ in (*each.points[:1], *each.points[-1:])]
    ys = [y for each in traces for _, y in each.points if is_drawable(y)]
    x_axis = count_axis(int(min(xs, default=0)), int(max(xs, default=1)))
    y_axis = value_axis(ys, axes.scale)
    most_bins = min(MOST_BINS, max(_LEAST_BINS, _MOST_POINTS // (2 * max(1, len(traces)))))
    lines = [
        draw_line(
            each.name,
            each.points,
            x_axis,
            y_axis,
            style="line rest" if each.number is None else line_style(each.number),
            most_bins=most_bins,
            is_named=each.number is not None,
        )
        for each in sorted(traces, key=lambda each: each.number is not None)
    ]
    unit = ", ".join(part for part in (axes.unit, "log scale" if y_axis.is_log else "") if part)
    named = {each.name: each.points for each in traces if each.number is not None}
    return fill(
        "chart.html",
        curve=axes,
        identifier=identifier,
        size=SIZE,
        title=f"{axes.title} ({unit})" if unit else axes.title,
        lines=lines,
        x_axis=x_axis,
        y_axis=y_axis,
        grid=grid(x_axis, y_axis),
        gaps=[],
        data=tip_data(axes.x_name, x_axis, y_axis, lines),
        description=describe(axes.x_name, named),
        remarks=[*axes.remarks, *_remarks(traces, most_bins)],
    )


def _remarks(traces: Sequence[Trace], most_bins: int) -> Iterable[str]:
    rest = sum(each.number is None for each in traces)
    if rest:
        yield f"Grey: {rest:,} more; the tip names the nearest one."
    for each in traces:
        gaps = [x for x, y in each.points if not is_drawable(y)]
        if gaps:
            places = f"{gaps[0]:,.0f}" + (f" and {len(gaps) - 1:,} more places" * (len(gaps) > 1))
            yield f"Not finite: {numbers.name(each.name)} at {places}."
    longest = max((len(each.points) for each in traces), default=0)
    if longest > 2 * most_bins:
        yield f"{longest:,} values: the chart shows the lowest and the highest of each bin."
