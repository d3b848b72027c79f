"""Waits that do not end: two workers, both of whose processes are alive. H1 is S1 in silent.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
from keras import layers

from tests.defects.row import WORKERS, Findings, Run, X, Y, row

PEER_SECONDS = 300.0
"""Longer than a row may take: a process goes on after its failure, as a notebook does."""


def live_until(file: Path) -> None:
    """Keeps this process alive until the other worker is done."""
    end = time.monotonic() + PEER_SECONDS
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.05)


def _line(run: Run) -> keras.Model:
    with run.strategy.scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


@row("H2", "a callback stops the second worker only", WORKERS, right={"epochs": 2})
def stop_on_one(run: Run) -> Findings:
    model = _line(run)

    def stop(epoch: int, logs: Any) -> None:
        if run.worker == 1 and epoch == 1:
            model.stop_training = True

    callback = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    epochs = model.fit(X, Y, batch_size=8, epochs=4, callbacks=[callback], verbose=0).epoch
    (run.folder / f"done-{run.worker}").touch()
    live_until(run.folder / f"done-{1 - run.worker}")
    return {"epochs": len(epochs)}


@row(
    "H3",
    "an exception on the second worker, whose process goes on",
    WORKERS,
    right={},
    ends_with="worker 1 failed with OSError: the disk is full",
)
def exception_on_one(run: Run) -> Findings:
    def fail(epoch: int, logs: Any) -> None:
        if run.worker == 1:
            raise OSError("the disk is full")

    callback = keras.callbacks.LambdaCallback(on_epoch_end=fail)
    try:
        _line(run).fit(X, Y, batch_size=8, epochs=4, callbacks=[callback], verbose=0)
    except Exception:
        if run.worker == 1:
            live_until(run.folder / "reported")
        raise
    return {}


@row(
    "H4",
    "`evaluate` on the chief only, at the end of the program",
    WORKERS,
    right={},
    refused="Every worker must make the same calls",
)
def evaluate_last(run: Run) -> Findings:
    model = _line(run)
    model.fit(X, Y, batch_size=8, verbose=0)
    if run.worker == 0:
        model.evaluate(X, Y, batch_size=8, verbose=0)
    return {}


@row(
    "H4",
    "`evaluate` on the chief only, between two calls of `fit`",
    WORKERS,
    right={},
    refused="Look for an `if` that lets only some workers call fit, evaluate or predict",
)
def evaluate_between(run: Run) -> Findings:
    model = _line(run)
    for _ in range(2):
        model.fit(X, Y, batch_size=8, verbose=0)
        if run.worker == 0:
            model.evaluate(X, Y, batch_size=8, verbose=0)
    return {}
