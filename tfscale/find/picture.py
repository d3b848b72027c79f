"""Pictures of a range test: an SVG, and lines of text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from tfscale.find.rate_curve import RateCurve
from tfscale.report.svg_frame import Frame
from tfscale.report.ticks import value_axis

_FRAME = Frame(width=720, height=400, left=70, top=40, right=20, bottom=50)
_COLUMNS, _ROWS = 60, 12


def text_picture(found: RateCurve) -> str:
    """Returns the suggestion, where it comes from, and the smoothed losses drawn with stars."""
    axis = value_axis(_shown(found), "linear")
    x_axis = value_axis(found.rates, "log")
    cells = [[" "] * _COLUMNS for _ in range(_ROWS)]
    for rate, mean in zip(found.rates, found.smoothed, strict=True):
        column = round((_COLUMNS - 1) * x_axis.place(rate))
        row = round((_ROWS - 1) * (1 - axis.place(min(mean, axis.high))))
        cells[row][column] = "*"
    mark = round((_COLUMNS - 1) * x_axis.place(found.suggestion))
    cells = [
        [("|" if i == mark and cell == " " else cell) for i, cell in enumerate(r)] for r in cells
    ]
    labels = [f"{axis.high:.3g}", *[""] * (_ROWS - 2), f"{axis.low:.3g}"]
    low, high = f"{x_axis.low:g}", f"{x_axis.high:g}"
    lines = [
        f"learning rate: {found.suggestion:.2g}{_peak(found)}",
        f"  the smoothed loss is lowest at {found.minimum:.2g}; the suggestion is a third of it",
        f"  it falls fastest at {found.steepest:.2g}; a tenth of the lowest's is "
        f"{found.minimum_tenth:.2g}",
        f"  {_end(found)}",
        *(f"{label:>9} {''.join(row)}".rstrip() for label, row in zip(labels, cells, strict=True)),
        f"{'':9} {low}{high:>{_COLUMNS - len(low)}}",
    ]
    return "\n".join(lines)


def svg_picture(found: RateCurve) -> str:
    """Returns an SVG: losses as dots, the smoothed loss as a line, and the rates it suggests."""
    y_axis = value_axis(_shown(found), "linear")
    x_axis = value_axis(found.rates, "log")

    axes = x_axis, y_axis

    def place(rate: float, loss: float) -> tuple[float, float]:
        return _FRAME.placed(axes, rate, min(loss, y_axis.high))

    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="2" fill="#888">'
        f"<title>{rate:.3g}: {loss:.4g}</title></circle>"
        for rate, loss in zip(found.rates, found.losses, strict=True)
        for x, y in [place(rate, loss)]
    )
    points = " ".join(
        ",".join(map(str, place(*pair))) for pair in zip(found.rates, found.smoothed, strict=True)
    )
    marks = "".join(
        f'<line x1="{x}" x2="{x}" y1="{_FRAME.top}" y2="{_FRAME.floor}" stroke="{colour}" '
        f'stroke-dasharray="{dashes}"/>'
        f'<text x="{x + 4}" y="{y}" fill="{colour}">{name} {rate:.2g}</text>'
        for y, name, rate, colour, dashes in (
            (_FRAME.top + 14, "suggestion", found.suggestion, "#1a7f37", "none"),
            (_FRAME.top + 28, "steepest", found.steepest, "#9a6700", "4 3"),
            (_FRAME.top + 42, "minimum", found.minimum, "#cf222e", "4 3"),
        )
        for x in [place(rate, y_axis.high)[0]]
    )
    title = f"Loss over the learning rate: {found.suggestion:.2g} is suggested{_peak(found)}"
    line = f'<polyline points="{points}" fill="none" stroke="#0969da" stroke-width="2"/>'
    return _FRAME.drawn(title, "learning rate", axes, [dots, line, marks])


def _shown(found: RateCurve) -> Sequence[float]:
    """Returns the losses that an axis shows: what diverges leaves it at the top."""
    fallen = found.smoothed[: found.rates.index(found.minimum) + 1]
    top = max(fallen) + 0.5 * (max(fallen) - min(fallen))
    return [*(loss for loss in found.smoothed if loss <= top), top]


def _peak(found: RateCurve) -> str:
    return " (for the peak of the schedule)" if found.is_for_peak else ""


def _end(found: RateCurve) -> str:
    if found.has_diverged:
        return f"the loss diverged at {found.rates[-1]:.2g}, after {len(found.rates)} updates"
    return f"the loss did not diverge up to {found.rates[-1]:.2g}, after {len(found.rates)} updates"
