"""Horizontal bars with the range of each value: one SVG a bar, its labels beside it in HTML.

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
    """A value and the range around it.

    Attributes:
        name: What it is the value of.
        value: Finite, as are the others. Below 0, its bar has no width.
        low: Smallest value.
        high: Largest value.
        second: Another value in the same unit, drawn thinner, or None.
        colour: Number of the colour, 0 to 7, as in `templates/style.css`.
        remark: A text behind the value, such as a ratio.
    """

    name: str
    value: float
    low: float
    high: float
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
    largest = max(max(bar.high, bar.second or 0.0) for bar in bars) or 1.0
    return fill(
        "bars.html",
        title=f"{title} ({unit})",
        legend=f"Line: smallest to largest round.{f' Thin bar: {second}.' if second else ''}",
        size=_SIZE,
        bars=[
            {
                "name": bar.name,
                "value": numbers.number(bar.value),
                "remark": bar.remark,
                "colour": f"c{bar.colour}",
                "width": _x(bar.value, largest),
                "range": f"M{_x(bar.low, largest)} 5H{_x(bar.high, largest)}",
                "second": None if bar.second is None else _x(bar.second, largest),
                "description": _description(bar, unit, second),
            }
            for bar in bars
        ],
    )


def _x(value: float, largest: float) -> str:
    return f"{_SIZE * max(0.0, value) / largest:.1f}"


def _description(bar: Bar, unit: str, second: str) -> str:
    low, high = numbers.number(bar.low), numbers.number(bar.high)
    text = f"{bar.name}: {numbers.number(bar.value)} {unit}, {low} to {high}"
    return text if bar.second is None else f"{text}; {second} {numbers.number(bar.second)}"
