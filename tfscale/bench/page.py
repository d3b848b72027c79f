"""An outcome as one HTML page without scripts or network: pictures, table, machine, versions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from tfscale.bench import against, table
from tfscale.bench.against import Comparison
from tfscale.bench.figures import spread
from tfscale.bench.law_charts import law_charts
from tfscale.bench.outcome import Outcome, Row
from tfscale.report.bars import Bar, bar_chart
from tfscale.report.chart import line_chart
from tfscale.report.markup import fill
from tfscale.report.record import Curve

_ROW_COLOUR, _LIMIT_COLOUR = 0, 7


def render(outcome: Outcome, comparison: Comparison | None = None) -> str:
    """Returns the page of an outcome.

    Args:
        outcome: What was measured.
        comparison: What changed since an earlier run, or None.

    Returns:
        HTML5, to be stored as UTF-8.
    """
    machine = outcome.machine
    groups = [tuple(rows) for _, rows in itertools.groupby(outcome.rows, table.group_of)]
    return fill(
        "bench.html",
        title=f"Benchmark {outcome.kind}: {outcome.subject}",
        text=outcome.text,
        circumstances=table.circumstances(outcome),
        tiles=list(_tiles(outcome)),
        laws=list(law_charts(outcome)),
        formulas=[f"{name} time: {law['formula']}" for name, law in (outcome.law or {}).items()],
        charts=list(_bars(outcome, groups)),
        rounds=list(_rounds(groups)),
        texts=table.TEXTS,
        tables=[(rows[0].group, table.cells(outcome, rows)) for rows in groups],
        notes=table.notes(outcome),
        comparison=comparison and against.cells(comparison),
        earlier=comparison and comparison.date,
        differences=comparison.differences if comparison else (),
        settings={
            "Machine": {
                "processor": f"{machine.cpus} x {machine.processor}",
                "accelerators": ", ".join(machine.accelerators) or "none",
                "memory": f"{machine.memory_bytes / 2**30:.0f} GiB",
                "system": machine.system,
                "date": machine.date,
            },
            "Versions": machine.versions,
            "Settings": {name: _setting(value) for name, value in outcome.settings.items()},
        },
    )


def _setting(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _tiles(outcome: Outcome) -> Iterator[tuple[str, str, str]]:
    for row in outcome.rows:
        for peer, goal in row.goals():
            ratio = outcome.ratio(row, peer)
            if ratio is not None:
                text = f"goal {table.verdict(goal, ratio)}"
                yield f"{row.name} / {peer}", f"{ratio.median:.2f}x", text


def _bars(outcome: Outcome, groups: list[tuple[Row, ...]]) -> Iterator[Markup]:
    limits = {row.limit for row in outcome.rows}
    for rows in groups:
        measured = [row for row in rows if row.rounds]
        if not measured:
            continue
        has_processor = any(row.processor for row in measured)
        yield bar_chart(
            rows[0].group or "median of the rounds",
            [_bar(outcome, row, row.name in limits) for row in measured],
            unit=rows[0].unit,
            second="processor time of all processes" if has_processor else "",
        )


def _bar(outcome: Outcome, row: Row, is_limit: bool) -> Bar:
    value, ratio = spread(row.rounds), outcome.ratio(row)
    return Bar(
        name=row.name,
        value=value.median,
        low=value.low,
        high=value.high,
        second=spread(row.processor).median if row.processor else None,
        colour=_LIMIT_COLOUR if is_limit else _ROW_COLOUR,
        remark=f"{ratio.median:.2f}x {row.peer}" if ratio else "",
    )


def _rounds(groups: list[tuple[Row, ...]]) -> Iterator[Markup]:
    """Yields a chart of the rounds of each group, which shows disturbances."""
    for number, rows in enumerate(groups):
        series = {row.name: list(row.rounds) for row in rows if row.rounds}
        length = max(map(len, series.values()), default=0)
        if length < 2:
            continue
        group = f"{rows[0].group}, " if rows[0].group else ""
        # Rounds count from 1, and the first was dropped.
        curve = Curve(f"{group}by round", series, x_name="round", first=2, unit=rows[0].unit)
        yield line_chart(curve, identifier=f"rounds-{number}")
