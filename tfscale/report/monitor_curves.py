"""Charts of what Monitor recorded by step: a line for each worker, and device of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from tfscale.report import numbers
from tfscale.report.monitor_columns import Columns
from tfscale.report.monitored import Monitored, names
from tfscale.report.record import Scale
from tfscale.report.stragglers import OWN_WORK
from tfscale.report.thinning import thinned
from tfscale.report.traces import MOST_NAMED, Axes, Trace, trace_chart

_BINS = 400
_MOST_CHARTS = 24
_MOST_LAYERS = 32
_NOT_CURVES = {
    *("time", "clock", "steps", "seconds", "examples", "position", "epoch", "monitor_seconds"),
    *("flops", "clock_was_set_by", "unwritten", "energy_unread"),
}
_FIRST = ("examples_per_second", "utilization", "host_memory", "device_memory")
_COUNTED = ("network", "collective_bytes")
"""Bytes since the line before, drawn by second."""
_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes"))


def curves(monitored: Monitored, order: Sequence[int], *, identifier: str) -> Iterator[Markup]:
    """Draws a chart for each number of the lines, those of devices or layers on one.

    Steps that a restart repeated are drawn once, as they were repeated.

    Args:
        monitored: What was read.
        order: The workers, those first that have colours if not all have.
        identifier: Start of the ids in the HTML, unique on the page.
    """
    workers = {index: monitored.workers[index] for index in order}
    workers = {index: each for index, each in workers.items() if len(each.positions())}
    if not workers:
        return
    xs = {index: each.positions() for index, each in workers.items()}
    yield _own_work(workers, xs, f"{identifier}-own")
    for number, (title, members) in enumerate(_groups(monitored)[:_MOST_CHARTS]):
        yield _chart(title, members, workers, xs, f"{identifier}-{number}")


def _groups(monitored: Monitored) -> list[tuple[str, list[str]]]:
    """Returns the titles of the charts and the columns that belong on them."""
    found: dict[str, list[str]] = {}
    for name in names(monitored):
        first, *_, last = [*name.split("/"), ""] if "/" not in name else name.split("/")
        if first in _NOT_CURVES or first == "phases":
            continue
        if first in _COUNTED and not any(any(each) for each in _columns(monitored, name)):
            continue  # nothing is sent on one host
        is_split = first in ("energy", "layers")  # by quantity, not only by device
        found.setdefault(f"{first}/{last}" if is_split else first, []).append(name)
    order = {name: place for place, name in enumerate(_FIRST)}
    return sorted(found.items(), key=lambda item: order.get(item[0], len(order)))


def _columns(monitored: Monitored, name: str) -> Iterator[Sequence[float]]:
    for each in monitored.workers.values():
        if name in each.values:
            yield each.values[name]


def _own_work(
    workers: Mapping[int, Columns], xs: Mapping[int, Sequence[float]], identifier: str
) -> Markup:
    traces = []
    for place, (index, columns) in enumerate(workers.items()):
        phases = [columns.of_kept(f"phases/{phase}") for phase in OWN_WORK]
        steps = columns.of_kept("steps")
        values = [
            sum(own) / count if count else math.nan
            for count, *own in zip(steps, *phases, strict=True)
        ]
        traces.append(_trace(f"worker {index}", xs[index], values, place))
    title = "Own work a step: compute, input wait, callbacks"
    return trace_chart(Axes(title, unit="s"), traces, identifier=identifier)


def _chart(
    title: str,
    members: Sequence[str],
    workers: Mapping[int, Columns],
    xs: Mapping[int, Sequence[float]],
    identifier: str,
) -> Markup:
    first, _, quantity = title.partition("/")
    chosen, remarks = list(members), []
    if first == "layers":  # equal on all workers
        chosen = chosen[:_MOST_LAYERS]
        workers = dict(list(workers.items())[:1])
        if len(members) > len(chosen):
            remarks = [f"The first {len(chosen)} of {len(members):,} layers."]
    series: list[tuple[str, int, Sequence[float]]] = []
    for index, columns in workers.items():
        for name in chosen:
            if name in columns.values:
                values = _rates(first, quantity, columns, columns.of_kept(name))
                series.append((_label(name, quantity, index, len(workers)), index, values))
    unit, size = _unit(first, quantity, [values for _, _, values in series])
    traces = [
        _trace(label, xs[index], [value / size for value in values], place)
        for place, (label, index, values) in enumerate(series)
    ]
    words = numbers.name(title.replace("/joules", "/power").replace("/", ", "))
    scale: Scale = "linear" if "memory" in first or first == "learning_rate" else "auto"
    return trace_chart(
        Axes(words, unit=unit, scale=scale, remarks=remarks), traces, identifier=identifier
    )


def _rates(first: str, quantity: str, columns: Columns, values: Sequence[float]) -> Sequence[float]:
    """Returns what is counted since the line before, by second."""
    if quantity != "joules" and first not in _COUNTED:
        return values
    seconds = columns.of_kept("seconds")
    return [v / s if s > 0 else math.nan for v, s in zip(values, seconds, strict=True)]


def _label(name: str, quantity: str, worker: int, workers: int) -> str:
    parts = name.split("/")[1:]
    if quantity and parts and parts[-1] == quantity:
        parts = parts[:-1]
    device = " ".join(parts)
    return device if device and workers == 1 else f"worker {worker} {device}".strip()


def _unit(first: str, quantity: str, series: Sequence[Sequence[float]]) -> tuple[str, float]:
    """Returns a unit, and what values are divided by."""
    if quantity in ("joules", "watts"):
        return "W", 1.0
    if "memory" in first or first in _COUNTED:
        largest = max((v for values in series for v in values if v == v), default=1.0)
        size, unit = next((s, u) for s, u in _UNITS if abs(largest) >= s or s == 1)
        return (f"{unit}/s" if first in _COUNTED else unit), float(size)
    return "", 1.0


def _trace(label: str, xs: Sequence[float], values: Sequence[float], place: int) -> Trace:
    kept = thinned(values, most_bins=_BINS)
    missing = [index for index, value in kept if math.isnan(value)]
    skipped = set(missing) if len(missing) < len(kept) else set()
    points = [(int(xs[index]), value) for index, value in kept if index not in skipped]
    return Trace(label, points, number=place if place < MOST_NAMED else None)
