"""Predictions as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tfscale.plan.speed.link_law import LinkLaw
from tfscale.plan.speed.measured import MeasuredSpeed
from tfscale.plan.speed.prediction import StepPrediction
from tfscale.plan.speed.strategies import ALL_REDUCE, STRATEGIES
from tfscale.plan.speed.training_cost import TrainingCost

_MARK = "~"


def as_text(
    measured: MeasuredSpeed,
    predictions: Sequence[StepPrediction],
    costs: Sequence[TrainingCost] | None,
    link: LinkLaw | None,
) -> str:
    """Returns the laws, a row for each prediction, and the formulas.

    Args:
        measured: What they are predicted from.
        predictions: In the order of the rows.
        costs: Of the whole training with each of them, or None.
        link: The link of a data sheet if they are predicted with that, else None.
    """
    header = ["strategy", "workers", "replicas", "batch", "ms a step", "interval", "efficiency"]
    header += ["examples/s", "bottleneck"]
    columns: list[list[str]] = [[] for _ in predictions]
    if costs is not None:
        header += ["hours"] if costs[0].cost is None else ["hours", "cost"]
        columns = [
            [figure(of) for of in (each.hours, each.cost) if of is not None] for each in costs
        ]
    rows = [header]
    for each, further in zip(predictions, columns, strict=True):
        row = [
            f"{_MARK if each.is_extrapolated else ' '}{each.strategy}",
            f"{each.workers:,}",
            f"{each.replicas:,}",
            f"{each.global_batch_size:,}",
            figure(1e3 * each.step_seconds),
            f"{figure(1e3 * each.low_seconds)} to {figure(1e3 * each.high_seconds)}",
            f"{100 * each.efficiency:.0f}%",
            figure(each.examples_per_second),
            f"{each.bottleneck} {100 * each.parts[each.bottleneck] / each.step_seconds:.0f}%",
        ]
        rows.append(row + further)
    names = dict.fromkeys(each.strategy for each in predictions)
    return "\n".join(
        [
            *_laws(measured, link),
            "",
            *_aligned(rows),
            "",
            f"{_MARK} extrapolated: beyond measured replicas, rows, workers or bytes, or a part "
            "was never measured.",
            "",
            *(f"{name}: {STRATEGIES[name].formula}" for name in names),
            ALL_REDUCE,
        ]
    )


def _laws(measured: MeasuredSpeed, nominal: LinkLaw | None) -> Iterable[str]:
    steps, link = measured.step_law(), measured.link_law()
    yield (
        f"{measured.model}: {measured.gradient_bytes / 2**20:.3g} MiB of gradients in "
        f"{len(measured.pack_bytes)} pack{'s' if len(measured.pack_bytes) > 1 else ''}"
    )
    for replicas, fixed in steps.fixed.items():
        yield (
            f"a step of {replicas} replica{'s' if replicas > 1 else ''}: "
            f"{figure(1e3 * fixed)} ms + {figure(1e6 * steps.by_row[replicas])} us for each row "
            "of a replica"
        )
    yield (
        f"measured {steps.rows[0]} to {steps.rows[1]} rows; the lines are within "
        f"{100 * steps.relative_error:.0f}%, steps deviate by {100 * steps.deviation:.0f}%"
    )
    ending = "" if measured.small_steps else "; a step of several costs its all-reduces only"
    if nominal is not None:
        yield (
            f"a message between workers: {figure(1e6 * nominal.latency)} us + its bytes at "
            f"{figure(1 / nominal.seconds_per_byte / 2**20)} MiB/s, as given{ending}"
        )
    elif link is not None:
        bandwidth = 1 / link.seconds_per_byte / 2**20 if link.seconds_per_byte else float("inf")
        yield (
            f"a message between workers: {figure(1e6 * link.latency)} us + its bytes at "
            f"{figure(bandwidth)} MiB/s, measured on {link.workers} workers, within "
            f"{100 * link.relative_error:.0f}%"
        )
    if link is not None and measured.small_steps:
        yield (
            f"a step with other workers: {figure(1e3 * link.step_latency)} ms + "
            f"{figure(1e3 * link.step_seconds_per_byte * 2**20)} ms for each MiB of gradients, "
            "beyond its all-reduces"
        )
    if measured.input_rows_per_second is not None:
        yield f"input: {figure(measured.input_rows_per_second)} rows/s for each worker"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in (0, 8) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def figure(value: float) -> str:
    """Returns a number with three digits, and no exponent."""
    if value == 0:
        return "0"
    if value < 1e-6:
        return "<0.000001"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1e-3 else f"{value:.6f}"
