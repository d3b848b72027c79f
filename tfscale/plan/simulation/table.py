"""Plans of a job as text and as JSON values, with the commands of the chosen one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfscale.monitor.time_kinds import KINDS
from tfscale.plan.simulation.choosing import Circumstances, JobPlan
from tfscale.plan.simulation.planned_job import PlannedJob
from tfscale.plan.simulation.requests import LaunchRequest, launch_request, program_lines
from tfscale.plan.speed.table import figure

_HOUR = 3600.0
_HEADER = ("strategy", "workers", "ms a step", "saves every", "hours", "10-90 %", "goodput")
_COSTS = ("restarts", "cost", "kWh", "misses")

Commands = Mapping[str, LaunchRequest | str]


def commands(
    plan: JobPlan,
    *,
    engines: Sequence[str],
    program: Sequence[str],
    gpus_per_worker: int | None,
    options: Mapping[str, Mapping[str, str]],
) -> Commands:
    """Returns by engine the command that runs the chosen plan, or why the engine cannot.

    Args:
        plan: The plan; without a chosen job there is no command.
        engines: Values of `--engine`.
        program: The training program and its arguments.
        gpus_per_worker: GPUs of each worker, or None.
        options: Settings by engine.
    """
    if plan.chosen is None:
        return {}
    found: dict[str, LaunchRequest | str] = {}
    for engine in dict.fromkeys(engines):
        try:
            found[engine] = launch_request(
                plan.chosen,
                engine=engine,
                program=program,
                gpus_per_worker=gpus_per_worker,
                options=options.get(engine, {}),
            )
        except (ValueError, FileNotFoundError, NotImplementedError) as error:
            found[engine] = str(error)
    return found


def as_json(
    function: str, circumstances: Circumstances, plan: JobPlan, written: Commands
) -> dict[str, Any]:
    """Returns plans as JSON values; times in seconds, energy in kWh."""
    return {
        "function": function,
        "examples": circumstances.examples,
        "chosen": None if plan.chosen is None else plan.jobs.index(plan.chosen),
        "reason": plan.reason,
        "jobs": [_job(each) for each in plan.jobs],
        "program": [] if plan.chosen is None else program_lines(plan.chosen),
        "commands": {
            engine: {"refused": each}
            if isinstance(each, str)
            else {"words": list(each.words), "dry_run": each.dry_run}
            for engine, each in written.items()
        },
    }


def _job(planned: PlannedJob) -> dict[str, Any]:
    forecast = planned.forecast
    values: dict[str, Any] = {
        "prediction": dataclasses.asdict(planned.prediction),
        "steps": planned.job.steps,
        "machines": planned.machines,
        "misses": list(planned.misses),
        "bytes_missing": planned.bytes_missing,
    }
    if forecast is None:
        return values
    return values | {
        "least_workers": planned.job.least_workers,
        "save_every": planned.job.every,
        "seconds": forecast.seconds,
        "low_seconds": forecast.low_seconds,
        "high_seconds": forecast.high_seconds,
        "goodput": forecast.goodput.ratio,
        "seconds_by_kind": forecast.goodput.seconds,
        "restarts": forecast.restarts,
        "cost": planned.cost(forecast.seconds),
        "energy_kwh": planned.energy_kwh(forecast.seconds),
    }


def as_text(function: str, circumstances: Circumstances, plan: JobPlan, written: Commands) -> str:
    """Returns a row for each plan, why one was chosen, where its time goes, and its commands."""
    saves = circumstances.saves
    lines = [
        f"{function}: {circumstances.examples:,} examples, each job drawn "
        f"{circumstances.repeats} times",
        f"a save is written in {figure(saves.seconds)} s and takes {figure(saves.taken)} s from "
        "training; "
        + (
            "no worker fails (--mtbf)"
            if circumstances.failures is None
            else f"a worker fails once in {circumstances.failures.seconds / 86_400:.3g} days"
        ),
        "",
        *_table(plan),
        "",
        "* = chosen, ~ = the step is extrapolated. Cost and energy are of the mean time, limits of "
        "the 90 %.",
        "",
        plan.reason,
    ]
    chosen = plan.chosen
    if chosen is not None and chosen.forecast is not None:
        good = chosen.forecast.goodput
        kinds = [
            f"{kind.replace('_', ' ')} {good.seconds[kind] / good.total:.1%}"
            for kind in KINDS
            if good.seconds[kind] > 0
        ]
        lines += [f"Its time: {', '.join(kinds)}.", "", "In the program:"]
        lines += [f"    {line}" for line in program_lines(chosen)]
        for engine, each in written.items():
            lines += ["", f"{engine}:", f"    {each}"]
    return "\n".join(lines)


def _table(plan: JobPlan) -> list[str]:
    rows = [(" ", *_HEADER, *_COSTS), *(_row(each, plan) for each in plan.jobs)]
    shown = [place for place in range(len(rows[0])) if any(row[place].strip() for row in rows[1:])]
    widths = [max(len(row[place]) for row in rows) for place in shown]
    return [
        "  ".join(
            row[place].ljust(width) if place in (0, 1, 11) else row[place].rjust(width)
            for place, width in zip(shown, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _row(planned: PlannedJob, plan: JobPlan) -> tuple[str, ...]:
    step, forecast = planned.prediction, planned.forecast
    marks = "*" if planned is plan.chosen else " "
    marks += "~" if step.is_extrapolated else " "
    least = planned.job.least_workers
    workers = f"{step.workers:,}" if least is None else f"{least:,}:{step.workers:,}"
    if step.replicas != step.workers:
        workers += f" x {step.replicas // step.workers}"
    first = (marks, step.strategy, workers, figure(1e3 * step.step_seconds))
    misses = ", ".join(planned.misses)
    if forecast is None:
        return (*first, *("",) * 7, misses)
    low, high = forecast.low_seconds / _HOUR, forecast.high_seconds / _HOUR
    cost, energy = planned.cost(forecast.seconds), planned.energy_kwh(forecast.seconds)
    return (
        *first,
        f"{planned.job.every:,}",
        figure(forecast.seconds / _HOUR),
        f"{figure(low)}-{figure(high)}",
        f"{forecast.goodput.ratio:.1%}",
        f"{forecast.restarts:,.1f}",
        "" if cost is None else figure(cost),
        "" if energy is None else figure(energy),
        misses,
    )
