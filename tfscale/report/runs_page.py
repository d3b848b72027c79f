"""Several runs on one page, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from tfscale.report import numbers
from tfscale.report.chart import line_style
from tfscale.report.comparison import (
    best_of,
    differing,
    direction,
    equal,
    metrics,
    newest,
    result_columns,
)
from tfscale.report.markup import fill
from tfscale.report.monitor_page import KIND_STYLES, monitor_json
from tfscale.report.runs import Run
from tfscale.report.stacked import Stack, stacked_bars
from tfscale.report.traces import MOST_NAMED, Axes, Trace, trace_chart

_MOST_CHARTS = 24
_MOST_NAMES = 4


def runs_page(runs: Sequence[Run]) -> str:
    """Returns the page of several runs.

    The eight best runs, by the first metric that has a best value, have colours on all charts; with
    up to eight all have.

    Args:
        runs: At least two.
    """
    main = _main_metric(runs)
    colours = _colours(runs, main)
    charts = _charts(runs, colours)
    tables = {
        "Flags": [run.record.configuration for run in runs],
        "Environment": [run.record.environment for run in runs],
    }
    return fill(
        "runs.html",
        title=f"{len(runs)} runs",
        under=_names(runs),
        runs=[
            {"name": run.name, "style": "line rest" if number is None else line_style(number)}
            for run, number in zip(runs, colours, strict=True)
        ],
        results=result_columns(runs),
        remarks=_remarks(runs, main),
        differing={f"{title} that differ": differing(each) for title, each in tables.items()},
        equal={title: equal(each) for title, each in tables.items()},
        charts=charts[:_MOST_CHARTS],
        more_charts=max(0, len(charts) - _MOST_CHARTS),
        kinds=_kinds(runs),
    )


def runs_json(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Returns the table as JSON values: a dictionary for each run."""
    columns = result_columns(runs)
    return [
        {
            "name": run.name,
            "folder": str(run.folder),
            "title": run.record.title,
            "results": {
                column.name: _json(column.values[place])
                for column in columns
                if column.values[place] is not None
            },
            "configuration": run.record.configuration,
            "monitor": [monitor_json(each) for each in run.monitors],
        }
        for place, run in enumerate(runs)
    ]


def _json(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _names(runs: Sequence[Run]) -> str:
    shown = [run.name for run in runs[:_MOST_NAMES]]
    more = len(runs) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _main_metric(runs: Sequence[Run]) -> str | None:
    known = [name for name in metrics(runs) if direction(name)]
    validated = [name for name in known if name.startswith("val_")]
    return next(iter([*validated, *known]), None)


def _colours(runs: Sequence[Run], main: str | None) -> list[int | None]:
    """Returns the number of each run's colour; None for those that are grey."""
    if len(runs) <= MOST_NAMED:
        return list(range(len(runs)))
    best = [None if main is None else best_of(run, main) for run in runs]
    sign = direction(main or "")

    def key(place: int) -> tuple[bool, float]:
        value = best[place]
        return value is None, 0.0 if value is None else -sign * value

    order = sorted(range(len(runs)), key=key)[:MOST_NAMED]
    return [order.index(place) if place in order else None for place in range(len(runs))]


def _remarks(runs: Sequence[Run], main: str | None) -> list[str]:
    remarks = ["Bold: the best of a column. A dash: the run has no such value."]
    if len(runs) > MOST_NAMED:
        by = f"with the best {numbers.name(main)}" if main else "that were given first"
        remarks.append(f"The {MOST_NAMED} runs {by} have colours; the others are grey.")
    several = [run.name for run in runs if len(run.monitors) > 1]
    if several:
        remarks.append(
            f"{', '.join(several[:_MOST_NAMES])}: of several folders of Monitor, the newest counts."
        )
    return remarks


def _charts(runs: Sequence[Run], colours: Sequence[int | None]) -> list[Markup]:
    """Draws each metric of the histories by epoch, then the other curves by their titles."""
    found: dict[tuple[str, str, str], list[Trace]] = {}
    for run, number in zip(runs, colours, strict=True):
        for metric, values in run.record.history.items():
            points = [
                (epoch, value)
                for epoch, value in enumerate(values, run.record.first_epoch)
                if value is not None
            ]
            if points:
                trace = Trace(run.name, points, number)
                found.setdefault((numbers.name(metric), "epoch", ""), []).append(trace)
        for curve in run.record.curves:
            for name, values in curve.series.items():
                title = curve.title if len(curve.series) == 1 else f"{curve.title}, {name}"
                points = [
                    (curve.first + place * curve.every, value)
                    for place, value in enumerate(values)
                    if value is not None
                ]
                if points:
                    trace = Trace(run.name, points, number)
                    found.setdefault((title, curve.x_name, curve.unit), []).append(trace)
    return [
        trace_chart(Axes(title, x_name=x_name, unit=unit), traces, identifier=f"runs-{number}")
        for number, ((title, x_name, unit), traces) in enumerate(found.items())
    ]


def _kinds(runs: Sequence[Run]) -> Markup | str:
    stacks = [
        Stack(run.name, watched.good.seconds)
        for run in runs
        if (watched := newest(run)) is not None
    ]
    if not stacks:
        return ""
    return stacked_bars("Kinds of time", stacks, styles=KIND_STYLES, is_share=True)
