"""Points and curves over a logarithmic or linear x, such as measurements and a fitted law.

This file computes what is drawn; `templates/chart.html` writes the markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tfscale.report import numbers
from tfscale.report.chart import SIZE, Line, grid, line_style, tip_data
from tfscale.report.markup import fill
from tfscale.report.record import Scale
from tfscale.report.ticks import value_axis

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points of one name, and the curve that describes them.

    Attributes:
        name: In the legend.
        points: Measured x and y. Finite.
        curve: Points of the curve in ascending x; empty to draw none.
    """

    name: str
    points: Sequence[Point]
    curve: Sequence[Point] = ()


@dataclass(frozen=True)
class Plot:
    """A chart of points.

    Attributes:
        title: What y is.
        x_name: What x is.
        unit: Unit of y.
        x_scale: Of the x axis: "linear", "log" or "auto", as in `ticks.value_axis`.
        scale: Of the y axis.
    """

    title: str
    x_name: str
    unit: str
    x_scale: Scale = "auto"
    scale: Scale = "auto"


def scatter_chart(plot: Plot, series: Sequence[Series], *, identifier: str) -> Markup:
    """Draws points, each series with its curve.

    Args:
        plot: Title and axes.
        series: At least one with a point.
        identifier: Start of the ids in the HTML, unique on the page.

    Returns:
        A `<figure>`.
    """
    drawn = [point for each in series for point in (*each.points, *each.curve)]
    x_axis = value_axis([x for x, _ in drawn], plot.x_scale)
    y_axis = value_axis([y for _, y in drawn], plot.scale)

    def place(point: Point) -> str:
        x, y = point
        return f"{SIZE * x_axis.place(x):.1f} {SIZE * (1 - y_axis.place(y)):.1f}"

    def line(number: int, each: Series) -> Line:
        return Line(
            name=each.name,
            last=numbers.number(each.points[-1][1]) if each.points else "no value",
            style=line_style(number),
            path="".join(f"{'L' if i else 'M'}{place(p)}" for i, p in enumerate(each.curve)),
            # A line of no length with round ends: a dot that stays round when stretched.
            dots="".join(f"M{place(point)}h0" for point in each.points),
            points=sorted(each.points),
        )

    lines = [line(number, each) for number, each in enumerate(series)]
    unit = ", ".join(part for part in (plot.unit, "log scale" if y_axis.is_log else "") if part)
    return fill(
        "chart.html",
        curve=plot,
        identifier=identifier,
        size=SIZE,
        title=f"{plot.title} ({unit})" if unit else plot.title,
        lines=lines,
        x_axis=x_axis,
        y_axis=y_axis,
        grid=grid(x_axis, y_axis),
        gaps=[],
        data=tip_data(plot.x_name, x_axis, y_axis, lines),
        description=" ".join(_description(plot, each) for each in series),
        remarks=["Dots are measured; lines are the fitted law."] if _has_curve(series) else [],
    )


def _has_curve(series: Sequence[Series]) -> bool:
    return any(each.curve for each in series)


def _description(plot: Plot, series: Series) -> str:
    points = (f"{numbers.number(y)} at {plot.x_name} {numbers.number(x)}" for x, y in series.points)
    return f"{series.name}: {', '.join(points)}."
