"""What the pictures of plans share: a frame, and a colour and a legend for each strategy."""

from __future__ import annotations

from html import escape

from tfscale.report.svg_frame import Frame

FRAME = Frame(width=860, height=460, left=80, top=40, right=180, bottom=50)
_COLOURS = (
    *("#57606a", "#0969da", "#8250df", "#1a7f37", "#cf222e"),
    *("#9a6700", "#0550ae", "#bf3989", "#953800"),
)


def colour_of(number: int) -> str:
    """Returns the colour of a series."""
    return _COLOURS[number % len(_COLOURS)]


def legend_entry(number: int, name: str) -> str:
    """Returns the name of a series in its colour, to the right of the picture."""
    x, y = FRAME.end + 16, FRAME.top + 12 + 18 * number
    return (
        f'<rect x="{x}" y="{y - 9}" width="12" height="4" fill="{colour_of(number)}"/>'
        f'<text x="{x + 18}" y="{y}">{escape(name)}</text>'
    )
