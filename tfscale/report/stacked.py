"""Parts of a whole for each of several rows, as bars that are divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tfscale.report import numbers
from tfscale.report.markup import fill


@dataclass(frozen=True)
class Stack:
    """A divided bar.

    Attributes:
        name: Beside it.
        parts: Seconds by name; not negative.
    """

    name: str
    parts: Mapping[str, float]


def stacked_bars(
    title: str,
    stacks: Sequence[Stack],
    *,
    styles: Mapping[str, str],
    is_share: bool = False,
    remarks: Sequence[str] = (),
) -> Markup:
    """Draws a bar for each row, all on one scale; a tip has seconds and share of each part.

    Args:
        title: What is divided.
        stacks: The rows, all with the same parts; parts without time in any of them are left out.
        styles: The CSS class of each part.
        is_share: Whether all bars are of one length, so that shares can be compared.
        remarks: Sentences below.

    Returns:
        A `<figure>`.
    """
    names = [name for name in styles if any(each.parts.get(name, 0.0) > 0 for each in stacks)]
    whole = sum(sum(each.parts.values()) for each in stacks) or 1.0
    longest = max((sum(each.parts.values()) for each in stacks), default=0.0) or 1.0
    return fill(
        "stacked.html",
        title=title,
        legend=[
            {
                "name": numbers.name(name),
                "style": styles[name],
                "share": numbers.percent(sum(each.parts[name] for each in stacks) / whole),
            }
            for name in names
        ],
        rows=[
            {
                "name": each.name,
                "total": numbers.seconds(total),
                "parts": [
                    {
                        "style": styles[name],
                        "width": 100 * each.parts[name] / (total if is_share else longest),
                        "tip": f"{each.name}: {numbers.name(name)} "
                        f"{numbers.seconds(each.parts[name])}, "
                        f"{numbers.percent(each.parts[name] / total)}",
                    }
                    for name in names
                    if each.parts.get(name, 0.0) > 0
                ],
            }
            for each in stacks
            for total in [sum(each.parts.values()) or 1e-9]
        ],
        remarks=remarks,
    )
