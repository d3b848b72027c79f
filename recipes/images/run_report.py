"""The record of an image run, for `run.json`, `report.html` and `tfscale report`."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.images.sets import AnyImageSet
from recipes.images.training_log import TrainingLog
from recipes.run_record import run_record
from tfscale.report import Confusion, Curve, RunRecord, Timing

MOST_CLASSES = 100
"""With more classes confusions are not counted: the table is too large to read."""


def image_record(
    strategy: tf.distribute.Strategy,
    image_set: AnyImageSet,
    log: TrainingLog,
    *,
    results: dict[str, float],
    confusion: np.ndarray[Any, Any] | None,
    timing: Timing,
) -> RunRecord:
    """Returns the record of an image run.

    Args:
        strategy: The strategy of the training.
        image_set: The image set.
        log: The metrics of each epoch.
        results: Results, most important first.
        confusion: int64 [classes, classes] of the split "test", rows the true classes; or None.
        timing: How long it took.

    Returns:
        A `RunRecord`.
    """
    notes = [
        "Test results and confusions are those of the split test, which was used once, after "
        "training."
    ]
    rates = Curve(
        "learning rate of an epoch's last update",
        {"learning rate": log.column("learning_rate")},
        x_name="epoch",
        scale="linear",
    )
    return run_record(
        f"Images of {image_set.name}",
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
    """Returns the seconds per update, without the first epoch, which includes compilation."""
    ends = [0.0, *log.column("step")]
    counts = [end - start for start, end in itertools.pairwise(ends)]
    seconds = [
        spent / count
        for spent, count in zip(log.column("seconds")[1:], counts[1:], strict=True)
        if count
    ]
    return statistics.median(seconds) if seconds else None
