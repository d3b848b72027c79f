"""The record of an image run, for `run.json`, `report.html` and `tfscale report`."""

from __future__ import annotations

import datetime
import itertools
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recipes import flag_sections
from recipes.image_sets import ImageSet
from recipes.training_log import TrainingLog
from tfscale.inspect.report.environment import environment
from tfscale.inspect.report.record import Confusion, Curve, RunRecord, Timing

MOST_CLASSES = 100
"""Of more classes no confusions are counted: the table helps nobody, and grows with the square."""


def run_record(
    strategy: tf.distribute.Strategy,
    image_set: ImageSet,
    log: TrainingLog,
    *,
    results: dict[str, float],
    confusion: np.ndarray[Any, Any] | None,
    timing: Timing,
) -> RunRecord:
    """Puts together what a run was, did and came to.

    Args:
        strategy: What it trained under.
        image_set: What it trained on.
        log: What was noted at the end of each epoch.
        results: Numbers that count, most important first.
        confusion: int64 [classes, classes] of the split "test", rows the true classes; or None.
        timing: How long it took.

    Returns:
        A `RunRecord`.
    """
    notes = [
        "What is called test, and the confusions, are of the split test, which was looked at once, "
        "after training."
    ]
    rates = Curve(
        "learning rate of an epoch's last update",
        {"learning rate": log.column("learning_rate")},
        x_name="epoch",
    )
    return RunRecord(
        title=f"Images of {image_set.builder.info.name}",
        results=results,
        configuration=flag_sections.values(),
        environment=environment(strategy),
        timing=timing,
        history=log.history,
        curves=[rates],
        confusion=None
        if confusion is None
        else Confusion(image_set.class_names, confusion.tolist()),
        notes=notes,
        command=_command(),
        finished=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    )


def seconds_per_step(log: TrainingLog) -> float | None:
    """Returns the seconds of an update in the epochs after the first one, which compiles."""
    ends = [0.0, *log.column("step")]
    counts = [end - start for start, end in itertools.pairwise(ends)]
    seconds = [
        spent / count
        for spent, count in zip(log.column("seconds")[1:], counts[1:], strict=True)
        if count
    ]
    return statistics.median(seconds) if seconds else None


def _command() -> str:
    module = Path(sys.argv[0]).stem
    return shlex.join(["python", "-m", f"recipes.{module}", *sys.argv[1:]])
