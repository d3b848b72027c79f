"""The record of a recipe's run, for `run.json`, `report.html` and `tfscale report`."""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from recipes import flag_sections
from tfscale.report import Confusion, Curve, RunRecord, Stages, Timing, environment


def run_record(
    title: str,
    strategy: tf.distribute.Strategy,
    *,
    results: Mapping[str, float],
    timing: Timing,
    history: Mapping[str, Sequence[float]] | None = None,
    curves: Sequence[Curve] = (),
    confusion: Confusion | None = None,
    stages: Stages | None = None,
    notes: Sequence[str] = (),
) -> RunRecord:
    """Returns the record of a run that ends now, with the flags of this process.

    Args:
        title: The heading of the report.
        strategy: The strategy of the run.
        results: Results, most important first.
        timing: How long it took.
        history: Values by epoch, as in Keras's `History.history`.
        curves: More charts.
        confusion: The confusion matrix, or None.
        stages: A step of a pipeline, or None.
        notes: Sentences for the reader.
    """
    return RunRecord(
        title=title,
        results=results,
        configuration=flag_sections.values(),
        environment=environment(strategy),
        timing=timing,
        history=history or {},
        curves=curves,
        confusion=confusion,
        stages=stages,
        notes=notes,
        command=shlex.join(["python", "-m", f"recipes.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        finished=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    )
