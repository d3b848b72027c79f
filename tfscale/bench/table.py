"""An outcome as a table for a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tfscale.bench.figures import Spread, spread
from tfscale.bench.outcome import Outcome, Row

TEXTS = ("name", "", "ratio", "goal", "efficiency", "unit")
"""Headings of the columns that are texts."""


def as_text(outcome: Outcome) -> str:
    """Returns what was measured, how busy the machine was, the table, and the notes below it."""
    parts = ["\n".join([outcome.text, circumstances(outcome)])]
    for group, rows in itertools.groupby(outcome.rows, group_of):
        heading = f"{group[0]}\n" if group[0] else ""
        parts.append(heading + aligned(cells(outcome, tuple(rows))))
    if lines := notes(outcome):
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def group_of(row: Row) -> tuple[str, str]:
    """Returns what the rows of one table have in common: the group and the unit."""
    return row.group, row.unit


def cells(outcome: Outcome, rows: Sequence[Row]) -> list[list[str]]:
    """Returns headings and cells of the rows of one unit, without columns that are empty.

    Args:
        outcome: What the rows belong to.
        rows: At least one.
    """
    facts = {name: value for row in rows for name, value in row.facts.items()}
    before = [name for name, value in facts.items() if isinstance(value, str)]
    behind = [name for name in facts if name not in before]
    statistics = [rows[0].unit, "[min-max]", "processor", "ratio", "goal", "efficiency"]
    table = [
        ["name", "", *before, *statistics, *behind],
        *(
            [
                *(row.name, row.text, *(_fact(row, name) for name in before)),
                *(*_values(outcome, row), *(_fact(row, name) for name in behind)),
            ]
            for row in rows
        ),
    ]
    kept = [any(column) for column in zip(*table[1:], strict=True)]
    return [[cell for cell, keep in zip(line, kept, strict=True) if keep] for line in table]


def notes(outcome: Outcome) -> list[str]:
    """Returns the lines below the table: rows that were skipped, further goals, and notes."""
    skipped = [f"{row.name}: skipped: {row.skipped}" for row in outcome.rows if not row.rounds]
    goals = [
        f"{row.name}: {_times(ratio, peer)}, goal {verdict(goal, ratio)}"
        for row in outcome.rows
        for peer, goal in row.other_goals.items()
        if (ratio := outcome.ratio(row, peer)) is not None
    ]
    return [*skipped, *goals, *outcome.notes]


def circumstances(outcome: Outcome) -> str:
    """Returns a sentence about the machine and the load on it."""
    machine = outcome.machine
    return (
        f"{machine.kind}, load average {machine.load_before:.2f} before, "
        f"{machine.load_after:.2f} after; goals are informational"
    )


def number(value: float) -> str:
    """Returns a measured number with three significant digits, a counted one in full.

    Example:
        >>> number(12.345), number(0.00123), number(1234.5), number(579)
        ('12.3', '0.00123', '1,234', '579')
    """
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".removesuffix(".")


def span(value: Spread) -> str:
    """Returns the range of the rounds."""
    return f"[{number(value.low)}-{number(value.high)}]"


def verdict(goal: float, ratio: Spread) -> str:
    """Returns a goal and whether the median of the ratios meets it."""
    return f"<= {goal:g}x {'met' if ratio.median <= goal else 'missed'}"


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Returns the lines of a table whose first line are headings; numbers are aligned right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left = [heading in TEXTS for heading in table[0]]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in table
    )


def _values(outcome: Outcome, row: Row) -> list[str]:
    if not row.rounds:
        return ["skipped", "", "", "", "", ""]
    value, ratio, efficiency = spread(row.rounds), outcome.ratio(row), outcome.efficiency(row)
    return [
        number(value.median),
        span(value),
        number(spread(row.processor).median) if row.processor else "",
        _times(ratio, row.peer or "") if ratio else "",
        _goal(row, ratio),
        f"{efficiency.median:.2f} of {row.limit}" if efficiency else "",
    ]


def _times(ratio: Spread, peer: str) -> str:
    return f"{ratio.median:.2f}x {peer} [{ratio.low:.2f}-{ratio.high:.2f}]"


def _goal(row: Row, ratio: Spread | None) -> str:
    return "" if row.goal is None or ratio is None else verdict(row.goal, ratio)


def _fact(row: Row, name: str) -> str:
    value = row.facts.get(name, "")
    return value if isinstance(value, str) else number(value)
