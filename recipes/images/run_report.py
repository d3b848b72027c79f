"""The record of an image run, for `run.json`, `report.html` and `tfscale report`."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.images.sets import ImageSet
from recipes.images.training_log import TrainingLog
from recipes.run_record import run_record
from tfscale.report import Confusion, Curve, RunRecord, Timing

MOST_CLASSES = 100
"""Of more classes no confusions are counted: the table helps nobody, and grows with the square."""


def image_record(
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
        scale="linear",
    )
    return run_record(
        f"Images of {image_set.builder.info.name}",
        strategy,
        results=results,
        timing=timing,
        history=log.history,
        curves=[rates],
        confusion=None
        if confusion is None
        else Confusion(image_set.class_names, confusion.tolist()),
        notes=notes,
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
