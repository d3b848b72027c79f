"""A picture of a pipeline: which microbatch each stage computes at which time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from strategies.extension import Timeline, Unit

_WIDTH = 960
_ROW = 28
_LEFT = 70


def text_picture(timeline: Timeline, columns: int = 100) -> str:
    """Returns a line for each stage: digits for microbatches, dots where it waits.

    A forward pass is shown by the last digit of its microbatch, a backward pass by a letter (a for
    microbatch 0); with several chunks a stage, those of later chunks look the same.

    Args:
        timeline: Of one step.
        columns: The most characters for the time. Positive.

    Example:
        >>> from strategies.extension import device_orders, timeline
        >>> run = timeline(device_orders("1f1b", 2, 3), lambda u: 1 if u.is_forward else 2)
        >>> print(text_picture(run))
        stage 0  01..aa2bb.cc
        stage 1  .0aa1bb2cc..
    """
    scale = min(1.0, columns / timeline.makespan)
    lines = []
    for device, order in enumerate(timeline.orders):
        line = ["."] * round(timeline.makespan * scale)
        for unit in order:
            begin, end = round(timeline.begins[unit] * scale), round(timeline.ends[unit] * scale)
            mark = str(unit.microbatch % 10) if unit.is_forward else chr(97 + unit.microbatch % 26)
            line[begin:end] = [mark] * (end - begin)
        lines.append(f"stage {device}  {''.join(line)}")
    return "\n".join(lines)


def svg_picture(
    orders: Sequence[Sequence[Unit]],
    begins: Mapping[Unit, float],
    ends: Mapping[Unit, float],
    title: str,
) -> str:
    """Returns an SVG: a row for each stage, a box for each unit.

    Args:
        orders: By stage, its units.
        begins: By unit, in any unit of time, from 0.
        ends: By unit.
        title: Above the picture.
    """
    span = max(ends.values())
    scale = (_WIDTH - _LEFT - 10) / span
    stages = len(orders)
    boxes = []
    for device, order in enumerate(orders):
        top = 30 + device * _ROW
        boxes.append(f'<text x="4" y="{top + 17}">stage {device}</text>')
        for unit in order:
            left = _LEFT + begins[unit] * scale
            width = max(0.5, (ends[unit] - begins[unit]) * scale)
            lightness = 50 + 25 * (unit.chunk // stages % 2)
            color = f"hsl({215 if unit.is_forward else 140}, 60%, {lightness}%)"
            kind = "forward" if unit.is_forward else "backward"
            hint = f"{kind}, chunk {unit.chunk}, microbatch {unit.microbatch}"
            boxes.append(
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_ROW - 4}" '
                f'fill="{color}" stroke="white"><title>{hint}</title></rect>'
            )
            if width > 14:
                boxes.append(
                    f'<text x="{left + width / 2:.1f}" y="{top + 17}" text-anchor="middle" '
                    f'fill="white">{unit.microbatch}</text>'
                )
    height = 40 + stages * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12">'
        f'<text x="4" y="18" font-size="14">{escape(title)}</text>{"".join(boxes)}</svg>\n'
    )
