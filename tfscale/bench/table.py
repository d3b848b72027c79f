"""The result of a race as a table for a terminal, and as JSON values."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfscale.bench.figures import Spread, paired_ratios, spread
from tfscale.bench.models import MODELS
from tfscale.bench.racing import Result
from tfscale.bench.variant import Variant

_HEADINGS = ("variant", "", "threads", "ms a step", "[min-max]", "ratio", "goal", "peak RSS MiB")
_NUMERIC = (2, 3, 7)


def ratio_to_peer(result: Result, variant: Variant) -> Spread | None:
    """Returns the ratios of the variant's rounds to its peer's; None where the peer was not run."""
    if variant.peer is None or variant.peer not in result.step_seconds:
        return None
    seconds = result.step_seconds
    return spread(paired_ratios(seconds[variant.name], seconds[variant.peer]))


def as_text(result: Result) -> str:
    """Returns the table, under a line that says what was raced and how busy the machine was."""
    rows = [_HEADINGS, *(_row(result, variant) for variant in result.variants)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
    lines = [
        "  ".join(
            cell.rjust(width) if i in _NUMERIC else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*_circumstances(result), "", *lines])


def as_json(result: Result) -> dict[str, Any]:
    """Returns the result as JSON values: milliseconds, ratios, bytes."""
    return {
        **dataclasses.asdict(result.race),
        "cpus": result.cpus,
        "load_average": [result.load_before, result.load_after],
        "variants": [_json_of(result, variant) for variant in result.variants],
    }


def _json_of(result: Result, variant: Variant) -> dict[str, Any]:
    milliseconds = [1e3 * seconds for seconds in result.step_seconds[variant.name]]
    ratio = ratio_to_peer(result, variant)
    return {
        "name": variant.name,
        "text": variant.text,
        "num_workers": variant.num_workers,
        "threads": result.race.threads_of(variant.num_workers),
        "step_ms": dataclasses.asdict(spread(milliseconds)),
        "rounds_ms": milliseconds,
        "first_loss": result.first_loss[variant.name],
        "peer": variant.peer,
        "ratio": ratio and dataclasses.asdict(ratio),
        "goal": variant.goal,
        "peak_bytes": result.peak_bytes[variant.name],
    }


def _row(result: Result, variant: Variant) -> tuple[str, ...]:
    time = spread([1e3 * seconds for seconds in result.step_seconds[variant.name]])
    ratio = ratio_to_peer(result, variant)
    threads = str(result.race.threads_of(variant.num_workers))
    return (
        variant.name,
        variant.text,
        f"{variant.num_workers} x {threads}" if variant.num_workers else threads,
        f"{time.median:#.3g}",
        f"[{time.low:#.3g}-{time.high:#.3g}]",
        f"{ratio.median:.2f}x {variant.peer} [{ratio.low:.2f}-{ratio.high:.2f}]" if ratio else "",
        _goal(variant, ratio),
        f"{result.peak_bytes[variant.name] / 2**20:.0f}",
    )


def _goal(variant: Variant, ratio: Spread | None) -> str:
    if variant.goal is None or ratio is None:
        return ""
    return f"<= {variant.goal:g}x {'met' if ratio.median <= variant.goal else 'missed'}"


def _circumstances(result: Result) -> list[str]:
    race = result.race
    subject = race.target or f"{race.model} ({MODELS[race.model].text})"
    rows = f"batch {MODELS[race.model].batch_size}, " if race.model else ""
    workers = any(variant.num_workers for variant in result.variants)
    together = race.steps_per_execution or "as compiled"
    counted = race.rounds - 1
    return [
        f"{subject}: {rows}{race.steps} steps a turn, steps_per_execution {together}, median of "
        f"{counted} round{'s' if counted > 1 else ''} ({race.rounds} run, the first dropped)",
        f"{result.cpus} CPUs, load average {result.load_before:.2f} before, "
        f"{result.load_after:.2f} after; goals are informational"
        + (", and a cluster's batch is one device's batch times the workers" if workers else ""),
    ]
