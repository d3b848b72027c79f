"""The measurement of an input as an outcome: table, picture, JSON and comparison are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfscale.bench.machine import Machine
from tfscale.bench.outcome import Outcome, Row
from tfscale.bench.turns import peak_bytes
from tfscale.data.diagnosis.diagnosis import Diagnosis
from tfscale.data.diagnosis.figures import Cost
from tfscale.data.diagnosis.measurement import Measurement
from tfscale.data.diagnosis.turns import Turn

_UNIT = "ms a step"
_STAGES, _WHOLE = "what each stage adds", "together"
_TEXTS = {
    "a batch in memory": "the ceiling: the same shapes without any work",
    "larger batches": "the whole input, batches 8 times as large",
    "transfer": "copies a batch to the devices of the replicas",
    "model": "training with a batch in memory",
    "training": "training with this input",
    "model_larger": "training with a batch in memory, 8 times as large",
}


def input_outcome(
    subject: str,
    measurement: Measurement,
    diagnosis: Diagnosis,
    machine: Machine,
    settings: Mapping[str, Any],
) -> Outcome:
    """Returns the outcome of `tfscale data bench`.

    Args:
        subject: What was measured.
        measurement: Of the input, and of a training if there was a model.
        diagnosis: What the figures say.
        machine: Where it was measured.
        settings: What the flags say.
    """
    figures, turns = measurement.figures, dict(measurement.turns)
    total = turns[measurement.stages[-1].name]
    rows = [_stage_row(cost, min(figures.total)) for cost in figures.costs]
    rows.append(_row("input", "the whole input", total))
    rows += [_row(name, text, turns[name]) for name, text in _TEXTS.items() if name in turns]
    if "transfer" not in turns:
        why = "the replicas are CPUs, or the input is not a pipeline: nothing is copied"
        rows.append(Row("transfer", _TEXTS["transfer"], _UNIT, (), group=_WHOLE, skipped=why))
    what = "the input and training" if figures.training else "the input"
    text = (
        f"{what} of {subject}: global batches of {figures.batch_size:,} examples, "
        f"{figures.batch_bytes / 2**20:.3g} MiB; at most {peak_bytes() / 2**20:,.0f} MiB of memory"
    )
    advice = [f"{number}. {each}" for number, each in enumerate(diagnosis.advice, 1)]
    return Outcome(
        kind="input",
        subject=subject,
        text=text,
        settings=settings,
        machine=machine,
        rows=tuple(rows),
        notes=(f"{diagnosis.text}.", *advice),
        diagnosis=diagnosis.to_json(),
    )


def _stage_row(cost: Cost, total: float) -> Row:
    return Row(
        cost.stage.name,
        cost.stage.text,
        _UNIT,
        _ms(cost.seconds),
        _ms(cost.processor),
        facts={"part": f"{max(0.0, cost.least / total):.0%}"},
        group=_STAGES,
    )


def _row(name: str, text: str, turns: Sequence[Turn]) -> Row:
    return Row(
        name,
        text,
        _UNIT,
        _ms([turn.seconds for turn in turns]),
        _ms([turn.processor_seconds for turn in turns]),
        group=_WHOLE,
    )


def _ms(seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(1e3 * each for each in seconds)
