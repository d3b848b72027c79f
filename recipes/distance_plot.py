"""Distances over epochs as one SVG file, which any browser shows, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 720, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 180, 48, 52
# Okabe and Ito 2008, "Color universal design": told apart with any colour vision.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MOST_TICKS = 8

_Axis: TypeAlias = Callable[[float], float]


def distance_plot(curves: Mapping[str, Sequence[float]], *, title: str) -> str:
    """Draws one line for each curve.

    Args:
        curves: Label to values at epochs 0, 1, ... What has no logarithm (zero, NaN, inf) leaves a
            gap. At most six curves, at least one value that can be drawn.
        title: Stands above.

    Returns:
        The text of an SVG file.

    Raises:
        ValueError: If there are too many curves, or nothing to draw.

    Example:
        >>> distance_plot({"sgd": [1.0, 0.1, 0.01]}, title="Distance").count("<path")
        1
    """
    drawn = [value for values in curves.values() for value in values if _has_logarithm(value)]
    if not drawn or len(curves) > len(_COLOURS):
        raise ValueError(
            f"`curves` must be one to {len(_COLOURS)} curves with a positive, finite value. "
            f"Received: {len(curves)} curves, {len(drawn)} such values. Draw fewer, or others."
        )
    last = max(1, max(len(values) for values in curves.values()) - 1)
    low, high = math.floor(math.log10(min(drawn))), math.ceil(math.log10(max(drawn)))
    high = max(high, low + 1)

    def across(epoch: float) -> float:
        return _LEFT + epoch / last * (_WIDTH - _LEFT - _RIGHT)

    def down(exponent: float) -> float:
        return _TOP + (high - exponent) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="26" font-size="15">{escape(title)}</text>',
    ]
    right, bottom = across(last), down(low)
    for exponent in _ticks(low, high):
        y = down(exponent)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"1e{exponent}", "end"))
    for epoch in _ticks(0, last):
        parts.append(_text(across(epoch), bottom + 20, str(epoch), "middle"))
    parts.append(_text(across(last / 2), bottom + 42, "epochs", "middle"))
    for place, (label, values) in enumerate(curves.items()):
        colour = _COLOURS[place]
        path = _path(values, across, down)
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = _TOP + 12 + 22 * place
        parts.append(
            f'<line x1="{right + 16}" x2="{right + 40}" y1="{y}" y2="{y}" stroke="{colour}" '
            'stroke-width="3"/>'
        )
        parts.append(_text(right + 46, y + 4, label, "start"))
    return "\n".join([*parts, "</svg>", ""])


def _has_logarithm(value: float) -> bool:
    return 0 < value < math.inf


def _ticks(first: int, last: int) -> range:
    return range(first, last + 1, max(1, -(-(last - first) // _MOST_TICKS)))


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(values: Sequence[float], across: _Axis, down: _Axis) -> str:
    """The commands of an SVG path: a line through the values, begun anew after each gap."""
    commands, is_begun = [], False
    for epoch, value in enumerate(values):
        if _has_logarithm(value):
            place = f"{across(epoch):.1f} {down(math.log10(value)):.1f}"
            commands.append(f"{'L' if is_begun else 'M'}{place}")
        is_begun = _has_logarithm(value)
    return " ".join(commands)
