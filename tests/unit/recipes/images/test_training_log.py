from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import keras
import numpy as np
import pytest

from recipes.images.run_report import seconds_per_step
from recipes.images.training_log import FIELDS, TrainingLog
from tfscale.schedules import linear_decay

FEATURES, TARGETS = np.ones((8, 2), np.float32), np.ones((8, 1), np.float32)


def ticks() -> Iterator[float]:
    """A clock that advances by one second each time it is read."""
    second = 0.0
    while True:
        yield second
        second += 1


def trained() -> tuple[TrainingLog, keras.callbacks.History]:
    """Two epochs of 4 batches and, in a second call, half a third one."""
    schedule = linear_decay(0.5, 10)
    clock = ticks()
    log = TrainingLog(schedule, clock=lambda: next(clock))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(schedule), "mse", metrics=["mae"])
    history = model.fit(FEATURES, TARGETS, batch_size=2, epochs=2, verbose=0, callbacks=[log])
    model.fit(
        FEATURES[:4],
        TARGETS[:4],
        batch_size=2,
        initial_epoch=2,
        epochs=3,
        verbose=0,
        callbacks=[log],
    )
    return log, history


def test_each_epoch_shows_the_updates_so_far_and_the_rate_of_the_last_of_them() -> None:
    log, history = trained()
    steps = [4, 8, 10]
    assert log.column("epoch") == [1, 2, 3]
    assert log.column("step") == steps
    # A line from 0.5 at update 0 to 0 at update 10; the n-th update is at n - 1.
    expected = [0.5 * (1 - (step - 1) / 10) for step in steps]
    assert log.column("learning_rate") == pytest.approx(expected, rel=1e-6)
    assert sorted(log.history) == ["loss", "mae"]
    assert log.history["loss"][:2] == history.history["loss"]


def test_seconds_are_those_of_the_clock() -> None:
    log, _ = trained()
    # The clock is read at the start of an epoch, once after the first step, and at the end.
    assert log.column("seconds") == [2.0, 1.0, 1.0]
    assert log.first_step_ended == 1.0
    # One second for 4 steps, one for 2: the median of 1/4 and 1/2.
    assert seconds_per_step(log) == 0.375


def test_csv_reads_back_as_the_rows() -> None:
    log, _ = trained()
    lines = list(csv.DictReader(io.StringIO(log.csv())))
    assert list(lines[0])[:4] == list(FIELDS)
    assert [{name: float(text) for name, text in line.items()} for line in lines] == log.rows
