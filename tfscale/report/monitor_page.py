"""What Monitor recorded, as a part of the page of a run, and as JSON."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tfscale.cli.sizes import shown_bytes
from tfscale.monitor.phases import PHASES
from tfscale.monitor.time_kinds import KINDS
from tfscale.report import numbers
from tfscale.report.areas import area_chart
from tfscale.report.gaps import gaps
from tfscale.report.markup import fill
from tfscale.report.monitor_curves import curves
from tfscale.report.monitored import Monitored, Restart, restarts
from tfscale.report.stacked import Stack, stacked_bars
from tfscale.report.stragglers import Cumulated, Straggler, stragglers
from tfscale.report.traces import Axes

KIND_STYLES = {kind: f"k-{kind}" for kind in ("step", *(k for k in KINDS if k != "step"))}
"""CSS class by kind of time, the useful one first."""
PHASE_STYLES = {
    "compute": "k-step",
    "communication": "k-waiting_for_workers",
    "input_wait": "k-input_wait",
    "callbacks": "k-callbacks",
    "checkpoint": "k-save",
    "evaluation": "k-evaluation",
    "compile": "k-compile",
    "restore": "k-restore",
}
_MOST_WORKERS, _MOST_OVER_TIME, _MOST_RESTARTS = 32, 6, 20
_PARTS_OF_TIME = 120
_MOST_STRAGGLERS = 8


def monitor_part(monitored: Monitored, *, title: str, identifier: str) -> Markup:
    """Returns the part of a page about a folder of Monitor.

    Args:
        monitored: What was read.
        title: The heading.
        identifier: Start of the ids in the HTML, unique on the page.
    """
    slow = stragglers(monitored.workers)
    again = _of_the_job(restarts(monitored))
    # Those that others waited for come first: not all are drawn.
    order = list(dict.fromkeys([*(each.worker for each in slow), *monitored.good.workers]))
    kinds = {index: monitored.good.workers[index] for index in order}
    spent = {index: _phases(monitored, index) for index in order if index in monitored.workers}
    return fill(
        "monitor.html",
        title=title,
        tiles=_tiles(monitored),
        stragglers=[sentence(monitored, each) for each in slow[:_MOST_STRAGGLERS]],
        gaps=gaps(monitored),
        kinds=stacked_bars(
            "Every second of the job", _stacks(kinds), styles=KIND_STYLES, remarks=_left_out(kinds)
        ),
        phases=stacked_bars("Phases of fit", _stacks(spent), styles=PHASE_STYLES) if spent else "",
        kinds_table=_table(kinds, list(KIND_STYLES)),
        phases_table=_table(spent, list(PHASE_STYLES)),
        over_time=list(_over_time(monitored, list(spent), identifier)),
        restarts=_restarts(monitored, again[:_MOST_RESTARTS]),
        more_restarts=max(0, len(again) - _MOST_RESTARTS),
        charts=list(curves(monitored, list(spent), identifier=identifier)),
    )


def monitor_json(monitored: Monitored) -> dict[str, Any]:
    """Returns the same as JSON values."""
    good = monitored.good
    return {
        "folder": str(monitored.folder),
        "goodput": {
            "ratio": good.ratio,
            "total_seconds": good.total,
            "starts": good.starts,
            "seconds": good.seconds,
            "workers": {str(index): dict(kinds) for index, kinds in good.workers.items()},
        },
        "phases": {str(index): _phases(monitored, index) for index in monitored.workers},
        "examples_per_second": examples_per_second(monitored),
        "utilization": utilization(monitored),
        "energy_joules": None if monitored.energy is None else monitored.energy.joules,
        "grams_co2e": None if monitored.energy is None else monitored.energy.grams_co2e,
        "stragglers": [dataclasses.asdict(each) for each in stragglers(monitored.workers)],
        "gaps": gaps(monitored),
        "collective_bytes": collective_bytes(monitored),
        "restarts": [dataclasses.asdict(each) for each in restarts(monitored)],
    }


def examples_per_second(monitored: Monitored) -> float | None:
    """Returns the examples a second of all workers, while steps were taken; None without a step."""
    rates = []
    for index, columns in monitored.workers.items():
        phases = _phases(monitored, index)
        seconds = sum(phases.values()) - sum(
            phases[name] for name in ("compile", "evaluation", "checkpoint", "restore")
        )
        # The first execution compiles; its examples do not count either.
        examples = sum(
            n
            for n, compiled in zip(
                columns.values["examples"], columns.values["phases/compile"], strict=True
            )
            if not compiled
        )
        rates.append(examples / seconds if seconds > 0 else 0.0)
    return sum(rates) if any(rates) else None


def utilization(monitored: Monitored) -> float | None:
    """Returns the part of the peak over the whole of the lines that have it; None without one."""
    done = whole = 0.0
    for columns in monitored.workers.values():
        if "utilization" in columns.values:
            pairs = zip(columns.values["utilization"], columns.values["seconds"], strict=True)
            known = [(part, seconds) for part, seconds in pairs if not math.isnan(part)]
            done += sum(part * seconds for part, seconds in known)
            whole += sum(seconds for _, seconds in known)
    return done / whole if whole > 0 else None


def collective_bytes(monitored: Monitored) -> float | None:
    """Returns the bytes of collectives that a step of all workers sends; None if not counted."""
    sent = [
        math.fsum(own for own in columns.values["collective_bytes"] if not math.isnan(own))
        / math.fsum(columns.values["steps"])
        for columns in monitored.workers.values()
        if "collective_bytes" in columns.values
    ]
    return sum(sent) if sent and len(sent) == len(monitored.workers) else None


def sentence(monitored: Monitored, slow: Straggler) -> str:
    """Returns what there is to say about a straggler."""
    columns = monitored.workers[slow.worker]
    # When that step ended: of the first of its lines.
    places, times = columns.positions(), columns.of_kept("time")
    since = Cumulated(places, 0.0, _differences(times, monitored.began)).at(slow.first)
    until = f"to step {slow.last:,.0f}" if slow.is_over else "to the end"
    return (
        f"The others waited for worker {slow.worker} from step {slow.first:,.0f} "
        f"(after {numbers.seconds(since)}) {until}, {numbers.seconds(slow.waited)} in all: its own "
        f"work takes {numbers.seconds(slow.seconds)} a step, that of the others "
        f"{numbers.seconds(slow.others)}. Most of the difference is {numbers.name(slow.phase)}."
    )


def _differences(values: Sequence[float], first: float) -> list[float]:
    return [value - before for before, value in zip([first, *values], values, strict=False)]


def _phases(monitored: Monitored, worker: int) -> dict[str, float]:
    values = monitored.workers[worker].values
    return {phase: math.fsum(values[f"phases/{phase}"]) for phase in PHASES}


def _tiles(monitored: Monitored) -> dict[str, str]:
    good = monitored.good
    tiles = {
        "effective training time": numbers.percent(good.ratio),
        "time of the job": numbers.seconds(good.total),
        "workers": f"{len(good.workers):,}",
        "starts": f"{good.starts:,}",
    }
    rate, used, taken = examples_per_second(monitored), utilization(monitored), monitored.energy
    if rate is not None:
        tiles["examples per second"] = numbers.number(rate)
    if used is not None:
        tiles["utilization"] = numbers.percent(used)
    if sent := collective_bytes(monitored):
        tiles["sent in collectives a step"] = shown_bytes(round(sent))
    if taken is not None:
        tiles["energy"] = f"{numbers.number(taken.joules / 3600)} Wh"
        if taken.grams_co2e is not None:
            tiles["CO2e"] = f"{numbers.number(taken.grams_co2e)} g"
    return tiles


def _stacks(workers: Mapping[int, Mapping[str, float]]) -> list[Stack]:
    shown = list(workers)[:_MOST_WORKERS]
    return [Stack(f"worker {index}", workers[index]) for index in shown]


def _left_out(workers: Mapping[int, Any]) -> list[str]:
    more = len(workers) - _MOST_WORKERS
    return [f"and {more:,} more workers; --json has all"] if more > 0 else []


def _table(workers: Mapping[int, Mapping[str, float]], names: Sequence[str]) -> list[list[str]]:
    """Returns cells: a row for each name, with seconds by worker and the share of all."""
    shown = list(workers)[:_MOST_WORKERS]
    whole = sum(sum(own.values()) for own in workers.values()) or 1.0
    rows = [["", "share", *(f"worker {index}" for index in shown)]]
    for name in names:
        seconds = [own[name] for own in workers.values()]
        if any(seconds):
            cells = [f"{workers[index][name]:,.2f} s" for index in shown]
            rows.append([numbers.name(name), numbers.percent(sum(seconds) / whole), *cells])
    return rows


def _of_the_job(found: Sequence[Restart]) -> list[list[Restart]]:
    """Returns restarts in groups: neighbours at one step are one restart of the job."""
    groups: list[list[Restart]] = []
    for each in found:
        group = groups[-1] if groups else []
        is_new = each.worker in {other.worker for other in group}
        if not group or is_new or each.position != group[0].position:
            groups.append([each])
        else:
            group.append(each)
    return groups


def _restarts(monitored: Monitored, groups: Sequence[Sequence[Restart]]) -> list[list[str]]:
    if not groups:
        return []
    rows = [["workers", "after", "stopped for", "went on from step", "steps repeated"]]
    for group in groups:
        workers = [str(each.worker) for each in group]
        is_all = len(workers) == len(monitored.fits) > 1
        rows.append(
            [
                "all" if is_all else ", ".join(workers),
                numbers.seconds(group[0].after),
                numbers.seconds(max(each.stopped for each in group)),
                f"{group[0].position:,}",
                f"{max(each.repeated for each in group):,}",
            ]
        )
    return rows


def _over_time(monitored: Monitored, order: Sequence[int], identifier: str) -> Iterator[Markup]:
    """Draws the first workers."""
    ends = [columns.values["time"][-1] for columns in monitored.workers.values()]
    whole = max(ends, default=0.0) - monitored.began
    if whole <= 0:
        return
    unit, size = next((u, s) for u, s in (("hour", 3600), ("minute", 60), ("second", 1))
                      if whole >= 3 * s or s == 1)  # fmt: skip
    edges = [whole * part / _PARTS_OF_TIME for part in range(_PARTS_OF_TIME + 1)]
    for index in order[:_MOST_OVER_TIME]:
        values = monitored.workers[index].values
        yield area_chart(
            Axes(f"Worker {index}", x_name=unit),
            {
                phase: _shares(values, phase, monitored.began, edges)
                for phase in PHASE_STYLES
                if any(values[f"phases/{phase}"])
            },
            [edge / size for edge in edges],
            styles=PHASE_STYLES,
            identifier=f"{identifier}-time-{index}",
        )


def _shares(
    values: Mapping[str, Sequence[float]], phase: str, began: float, edges: Sequence[float]
) -> list[float]:
    """Returns the part of each stretch of time that a phase took.

    Each line covers the seconds before its end; between two lines there may be nothing.
    """
    ends, lengths, own = values["time"], values["seconds"], values[f"phases/{phase}"]
    sums = list(itertools.accumulate(own, initial=0.0))

    def until(moment: float) -> float:
        line = bisect.bisect_left(ends, moment)
        if line == len(ends) or lengths[line] <= 0:
            return sums[line]
        part = 1 - (ends[line] - moment) / lengths[line]
        return sums[line] + max(0.0, part) * own[line]

    taken = [until(began + edge) for edge in edges]
    width = edges[1] - edges[0]
    return [min(1.0, max(0.0, (end - start) / width)) for start, end in itertools.pairwise(taken)]
