"""The pictures of a cost law: measured times as dots, and what the law predicts as lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from tfscale.bench.cost_law import CostLaw, Setup
from tfscale.bench.figures import spread
from tfscale.bench.outcome import Outcome
from tfscale.bench.scaling import name_of, setup_of, size_of
from tfscale.report.record import Scale
from tfscale.report.scatter import Plot, Point, Series, scatter_chart

_CURVE_POINTS = 40

Times = dict[Setup, float]


def law_charts(outcome: Outcome) -> Iterator[Markup]:
    """Yields pictures of wall and processor time over parameters, over replicas and over workers.

    Args:
        outcome: Of `tfscale bench scaling`; without a law there are no pictures.
    """
    measured = [row for row in outcome.rows if row.rounds]
    for time, values in (outcome.law or {}).items():
        law = CostLaw(values["coefficients"])
        rounds = [row.rounds if time == "wall" else row.processor for row in measured]
        setups = map(setup_of, measured)
        times = {setup: spread(each).median for setup, each in zip(setups, rounds, strict=True)}
        scale: Scale
        for name, scale, series in (
            ("parameters", "log", _by_size(times, law)),
            ("replicas", "linear", _by_count(times, law, "replicas")),
            ("workers", "linear", _by_count(times, law, "workers")),
        ):
            if series:
                title = f"{time} time of a step over {name}"
                plot = Plot(title, name, "ms", x_scale=scale, scale="log")
                yield scatter_chart(plot, series, identifier=f"law-{time}-{name}")


def _by_size(times: Times, law: CostLaw) -> list[Series]:
    """Returns a series for each number of replicas and workers."""
    sizes = [setup.parameters for setup in times]
    curve = _between(min(sizes), max(sizes))
    kinds = dict.fromkeys((setup.replicas, setup.workers) for setup in times)
    result = []
    for replicas, workers in kinds:
        result.append(
            Series(
                name=name_of(Setup(1, replicas, workers)),
                points=sorted(
                    (setup.parameters, time)
                    for setup, time in times.items()
                    if (setup.replicas, setup.workers) == (replicas, workers)
                ),
                curve=_curve(law, [Setup(size, replicas, workers) for size in curve], curve),
            )
        )
    return result


def _by_count(times: Times, law: CostLaw, name: str) -> list[Series]:
    """Returns a series for each size of the model; none if only one number was measured."""
    other = {"replicas": "workers", "workers": "replicas"}[name]
    points: dict[float, list[Point]] = {}
    for setup, time in times.items():
        if getattr(setup, other) == 1:
            points.setdefault(setup.parameters, []).append((getattr(setup, name), time))
    largest = max((x for each in points.values() for x, _ in each), default=1)
    counts = list(range(1, int(largest) + 1))
    return [
        Series(
            name=f"{size_of(size)} parameters",
            points=sorted(each),
            curve=_curve(law, [Setup(size, **{name: n}) for n in counts], counts),
        )
        for size, each in points.items()
        if len(each) > 1
    ]


def _curve(law: CostLaw, setups: Sequence[Setup], xs: Sequence[float]) -> list[Point]:
    """Returns the predicted times that a logarithmic axis can show."""
    points = [(x, law.time(setup)) for x, setup in zip(xs, setups, strict=True)]
    return [point for point in points if point[1] > 0]


def _between(low: float, high: float) -> list[float]:
    """Returns numbers with equal ratios from `low` to `high`."""
    step = math.log(high / low) / (_CURVE_POINTS - 1)
    return [low * math.exp(i * step) for i in range(_CURVE_POINTS)]
