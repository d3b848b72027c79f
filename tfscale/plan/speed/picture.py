"""The picture of a plan of the speed: examples a second over workers, by strategy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape

from tfscale.plan.pictures import FRAME, colour_of, legend_entry
from tfscale.plan.speed.prediction import StepPrediction
from tfscale.report.ticks import value_axis


def svg_picture(model: str, predictions: Sequence[StepPrediction]) -> str:
    """Returns an SVG: a line for each strategy, dashed where extrapolated, with its interval.

    Args:
        model: Named in the title.
        predictions: At least one.
    """
    by_name: dict[str, list[StepPrediction]] = {}
    for each in predictions:
        by_name.setdefault(each.strategy, []).append(each)
    x_axis = value_axis([each.replicas for each in predictions], "log")
    speeds = [speed for each in predictions for speed in _speeds(each)]
    y_axis = value_axis(speeds, "log")

    def place(replicas: float, speed: float) -> str:
        return "{},{}".format(*FRAME.placed((x_axis, y_axis), replicas, speed))

    parts = []
    for number, (name, own) in enumerate(by_name.items()):
        colour = colour_of(number)
        low = [place(each.replicas, _speeds(each)[0]) for each in own]
        high = [place(each.replicas, _speeds(each)[2]) for each in own]
        area = " ".join([*low, *reversed(high)])
        parts.append(f'<polygon points="{area}" fill="{colour}" opacity="0.08"/>')
        for one, other in itertools.pairwise(own):
            dashes = "5 4" if other.is_extrapolated else "none"
            ends = " ".join(place(each.replicas, each.examples_per_second) for each in (one, other))
            parts.append(
                f'<polyline points="{ends}" fill="none" stroke="{colour}" stroke-width="2" '
                f'stroke-dasharray="{dashes}"/>'
            )
        for each in own:
            x, y = place(each.replicas, each.examples_per_second).split(",")
            parts.append(
                f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"><title>{escape(name)}, '
                f"{each.workers:,} workers: {each.examples_per_second:,.0f} examples/s, "
                f"{1e3 * each.step_seconds:.3g} ms a step, efficiency {each.efficiency:.0%}, "
                f"{escape(each.bottleneck)}</title></circle>"
            )
        parts.append(legend_entry(number, name))
    title = f"{model}: examples a second over replicas; dashed: extrapolated"
    return FRAME.drawn(title, "replicas", (x_axis, y_axis), parts)


def _speeds(each: StepPrediction) -> tuple[float, float, float]:
    """Returns the lowest, the expected and the highest number of examples a second."""
    rows = each.examples_per_second * each.step_seconds
    # A deviation of 100% would be infinitely fast, which no axis has.
    highest = rows / max(each.low_seconds, 1e-3 * each.step_seconds)
    return rows / each.high_seconds, each.examples_per_second, highest
