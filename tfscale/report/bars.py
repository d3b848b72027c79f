"""Horizontal bars, each with a range if it has one: one SVG a bar, its labels beside it in HTML.

This file computes what is drawn; `templates/bars.html` writes the markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tfscale.report import numbers
from tfscale.report.markup import fill

_SIZE = 1000  # Width of the SVG's own coordinates.


@dataclass(frozen=True)
class Bar:
    """A value, and the range around it if it has one.

    Attributes:
        name: What it is the value of.
        value: Finite, as are the others. Below 0, its bar has no width.
        low: Smallest value, or None.
        high: Largest value, or None.
        second: Another value in the same unit, drawn thinner, or None.
        colour: Number of the colour, 0 to 7, as in `templates/style.css`.
        remark: A text behind the value, such as a ratio.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    second: float | None = None
    colour: int = 0
    remark: str = ""


def bar_chart(title: str, bars: Sequence[Bar], *, unit: str, second: str = "") -> Markup:
    """Draws bars from 0 on one linear scale, with a line from the lowest to the highest value.

    Args:
        title: What is measured.
        bars: At least one.
        unit: Unit of the values.
        second: What the thinner bars are; empty if there are none.

    Returns:
        A `<figure>`.
    """
    largest = max(max(bar.value, bar.high or 0.0, bar.second or 0.0) for bar in bars) or 1.0
    has_ranges = any(bar.high is not None for bar in bars)
    legend = ["Line: smallest to largest round."] if has_ranges else []
    legend += [f"Thin bar: {second}."] if second else []
    return fill(
        "bars.html",
        title=f"{title} ({unit})",
        legend=" ".join(legend),
        size=_SIZE,
        bars=[
            {
                "name": bar.name,
                "value": numbers.number(bar.value),
                "remark": bar.remark,
                "colour": f"c{bar.colour}",
                "width": _x(bar.value, largest),
                "range": _range(bar, largest),
                "second": None if bar.second is None else _x(bar.second, largest),
                "description": _description(bar, unit, second),
            }
            for bar in bars
        ],
    )


def _x(value: float, largest: float) -> str:
    return f"{_SIZE * max(0.0, value) / largest:.1f}"


def _range(bar: Bar, largest: float) -> str | None:
    if bar.low is None or bar.high is None:
        return None
    return f"M{_x(bar.low, largest)} 5H{_x(bar.high, largest)}"


def _description(bar: Bar, unit: str, second: str) -> str:
    text = f"{bar.name}: {numbers.number(bar.value)} {unit}"
    if bar.low is not None and bar.high is not None:
        text += f", {numbers.number(bar.low)} to {numbers.number(bar.high)}"
    return text if bar.second is None else f"{text}; {second} {numbers.number(bar.second)}"
