"""The picture of a plan of a job: expected goodput over workers, by strategy."""

from __future__ import annotations

from html import escape

from tfscale.plan.pictures import FRAME, colour_of, legend_entry
from tfscale.plan.simulation.choosing import JobPlan
from tfscale.plan.simulation.planned_job import PlannedJob
from tfscale.report.ticks import value_axis


def svg_picture(function: str, plan: JobPlan) -> str:
    """Returns an SVG: a line for each strategy, and a ring around what was chosen.

    Args:
        function: Named in the title.
        plan: The plan. Jobs without a forecast are left out.
    """
    by_name: dict[str, list[PlannedJob]] = {}
    for planned in plan.jobs:
        if planned.forecast is not None:
            by_name.setdefault(planned.prediction.strategy, []).append(planned)
    drawn = [planned for own in by_name.values() for planned in own]
    x_axis = value_axis([planned.prediction.replicas for planned in drawn], "log")
    axes = x_axis, value_axis([0.0, 100.0], "linear")
    parts = []
    for number, (name, own) in enumerate(by_name.items()):
        colour = colour_of(number)
        places = [FRAME.placed(axes, each.prediction.replicas, _percent(each)) for each in own]
        points = " ".join(f"{x},{y}" for x, y in places)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        for planned, (x, y) in zip(own, places, strict=True):
            parts.append(
                f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}">'
                f"<title>{escape(_text(planned))}</title></circle>"
            )
            if planned is plan.chosen:
                parts.append(
                    f'<circle cx="{x}" cy="{y}" r="8" fill="none" stroke="#24292f" '
                    'stroke-width="2"/>'
                )
        parts.append(legend_entry(number, name))
    title = f"{function}: expected goodput (%) over replicas; in the ring: chosen"
    return FRAME.drawn(title, "replicas", axes, parts)


def _percent(planned: PlannedJob) -> float:
    return 0.0 if planned.forecast is None else 100 * planned.forecast.goodput.ratio


def _text(planned: PlannedJob) -> str:
    hours = planned.seconds / 3600
    misses = f", misses {', '.join(planned.misses)}" if planned.misses else ""
    return f"{planned.name}: goodput {_percent(planned):.1f}%, {hours:,.3g} h{misses}"
