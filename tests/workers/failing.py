"""Program: one worker of a job that fails, and writes when and with which error.

    python -m tests.workers.failing FOLDER CASE

A worker that has failed does not exit before all have: its exit must not be what ends the others.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import strategies
from strategies.coordination import rendezvous
from strategies.keras_support.input import end_of_input
from tests.workers.callback_files import Crash, backed_up
from tests.workers.job import leave, wait_for
from tests.workers.small_models import ROWS, regression, rows


class FailAtTheEnd(keras.callbacks.Callback):
    """Fails when the other worker is already at the rendezvous of the end of an epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        raise OSError("the disk is full")


def in_mid_epoch(strategy: tf.distribute.Strategy, folder: Path, index: int) -> None:
    backed_up(strategy, folder, *([Crash()] if index == 1 else []))


def at_a_rendezvous(strategy: tf.distribute.Strategy, folder: Path, index: int) -> None:
    x, y = rows()
    callbacks = [FailAtTheEnd()] if index == 1 else []
    regression(strategy).fit(x, y, batch_size=5, callbacks=callbacks, verbose=0)


def evaluate_on_the_chief(strategy: tf.distribute.Strategy, folder: Path, index: int) -> None:
    model = regression(strategy)
    for _ in range(2):
        model.fit(*rows(), verbose=0)
        if index == 0:
            model.evaluate(*rows(), verbose=0)


def unseeded_shuffle(strategy: tf.distribute.Strategy, folder: Path, index: int) -> None:
    dataset = tf.data.Dataset.from_tensor_slices(rows()).shuffle(ROWS).batch(5)
    regression(strategy).fit(dataset, verbose=0)


def ends_early(strategy: tf.distribute.Strategy, folder: Path, index: int) -> None:
    """Worker 1's generator yields two of the four batches of an epoch."""
    x, y = rows()
    batches = ((x[i : i + 5], y[i : i + 5]) for i in range(0, 10 if index else 20, 5))
    end_of_input.RENDEZVOUS_SECONDS = 5.0
    regression(strategy).fit(batches, steps_per_epoch=4, verbose=0)


def own_replica_batches_end_early(
    strategy: tf.distribute.Strategy, folder: Path, index: int
) -> None:
    """Worker 1's dataset function makes two of the four batches of an epoch."""
    x, y = rows()

    def own(context: tf.distribute.InputContext) -> tf.data.Dataset:
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
        return dataset.take(4 - 2 * context.input_pipeline_id)

    end_of_input.RENDEZVOUS_SECONDS = 2.0
    distributed = strategy.distribute_datasets_from_function(own)
    regression(strategy).fit(distributed, steps_per_epoch=4, verbose=0)


def stopped_chief(strategy: tf.distribute.Strategy, folder: Path, index: int) -> None:
    """The first worker is stopped between `fit` and `evaluate`, until the other has failed."""
    model = regression(strategy)
    model.fit(*rows(), verbose=0)
    leave(folder, "trained", index, {"pid": os.getpid()})
    if index == 0:
        wait_for(folder / "trained-1.json")  # it has read all messages of `fit`
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    wait_for(folder / "trained-0.json")
    pid = json.loads((folder / "trained-0.json").read_text("utf-8"))["pid"]
    while Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(") ")[2][0] != "T":
        time.sleep(0.01)
    rendezvous._OWN_ANSWER_SECONDS = 3.0
    try:
        model.evaluate(*rows(), verbose=0)
    finally:
        os.kill(pid, signal.SIGCONT)


def resumed(strategy: tf.distribute.Strategy, folder: Path, index: int) -> None:
    """Does not fail: resumes where `in_mid_epoch` ended."""
    leave(folder, "resumed-training", index, backed_up(strategy, folder))


CASES: tuple[Callable[..., None], ...] = (
    in_mid_epoch,
    at_a_rendezvous,
    evaluate_on_the_chief,
    unseeded_shuffle,
    ends_early,
    own_replica_batches_end_early,
    stopped_chief,
    resumed,
)


def main() -> None:
    folder, case = Path(sys.argv[1]), sys.argv[2]
    keras.config.set_floatx("float64")
    strategy = strategies.multi_worker_mirrored_strategy()
    index = strategy.cluster_resolver.task_id
    found = {"kind": "", "error": ""}
    try:
        {function.__name__: function for function in CASES}[case](strategy, folder, index)
    except Exception as error:
        found = {"kind": type(error).__name__, "error": str(error)}
    leave(folder, case, index, {**found, "at": time.time()})
    wait_for(folder / f"{case}-{1 - index}.json")
    # A normal exit would wait for a cluster that has failed.
    os._exit(0)


if __name__ == "__main__":
    main()
