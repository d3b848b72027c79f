"""Parts of a whole over time, as areas on top of each other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tfscale.report.chart import SIZE, Line, describe, grid, tip_data
from tfscale.report.markup import fill
from tfscale.report.numbers import percent
from tfscale.report.ticks import Axis, value_axis
from tfscale.report.traces import Axes

_PERCENT = Axis(0, 100, (0, 25, 50, 75, 100), ("0", "25", "50", "75", "100"))


def area_chart(
    axes: Axes,
    parts: Mapping[str, Sequence[float]],
    edges: Sequence[float],
    *,
    styles: Mapping[str, str],
    identifier: str,
) -> Markup:
    """Draws parts in the order given, from the bottom up.

    Args:
        axes: Title, and what x is.
        parts: Of the time from each of `edges` to the next, in [0, 1]; together at most 1.
        edges: Ascending, one more than values.
        styles: The CSS class of each part.
        identifier: Start of the ids in the HTML, unique on the page.

    Returns:
        A `<figure>`.
    """
    x_axis = value_axis([edges[0], edges[-1]])
    middles = [round((start + end) / 2, 4) for start, end in itertools.pairwise(edges)]
    below = [0.0] * len(middles)
    lines = []
    for name, shares in parts.items():
        above = [low + share for low, share in zip(below, shares, strict=True)]
        whole = sum(
            s * (e - b) for s, (b, e) in zip(shares, itertools.pairwise(edges), strict=True)
        )
        points = [(x, round(100 * share, 2)) for x, share in zip(middles, shares, strict=True)]
        lines.append(
            Line(
                name=name.replace("_", " "),
                last=percent(whole / (edges[-1] - edges[0])),
                style=f"area {styles[name]}",
                path=_path(edges, below, above, x_axis),
                dots="",
                points=points,
            )
        )
        below = above
    return fill(
        "chart.html",
        curve=axes,
        identifier=identifier,
        size=SIZE,
        title=f"{axes.title} (% of the time)",
        lines=lines,
        x_axis=x_axis,
        y_axis=_PERCENT,
        grid=grid(x_axis, _PERCENT),
        gaps=[],
        data=tip_data(axes.x_name, x_axis, _PERCENT, lines),
        description=describe(axes.x_name, {line.name: line.points for line in lines}),
        remarks=axes.remarks,
    )


def _path(
    edges: Sequence[float], below: Sequence[float], above: Sequence[float], x_axis: Axis
) -> str:
    """Returns a polygon of steps between two heights."""
    xs = [f"{SIZE * x_axis.place(edge):.1f}" for edge in edges]

    def stairs(heights: Sequence[float]) -> list[str]:
        ys = [f"{SIZE * (1 - min(1.0, height)):.1f}" for height in heights]
        return [f"{x} {y}" for i, y in enumerate(ys) for x in (xs[i], xs[i + 1])]

    return f"M{'L'.join([*stairs(above), *reversed(stairs(below))])}Z"
