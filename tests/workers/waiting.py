"""Program: a worker of a job without a Watchdog, in which worker 1 keeps the others waiting.

    python -m tests.workers.waiting FOLDER FAULT FAULT ...

The faults follow one another. Each lasts until the test, which reads what the workers print, makes
the file FOLDER/FAULT. The next one begins when the test has made FOLDER/FAULT-over. The faults
"evaluate" and "stop" last until the job is ended.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
from strategies.coordination import rendezvous
from tests.workers.job import wait_for

STEPS = 8
FAULTY_STEP = 4


def keep_waiting(path: Path) -> None:
    """Keeps the other worker waiting until the test makes a file."""
    print(f"waits for the file {path.name}", flush=True)
    wait_for(path)


class OnOneWorker(keras.callbacks.Callback):
    """Does what keeps the others waiting."""

    def __init__(self, fault: str, path: Path, rows: Any) -> None:
        super().__init__()
        self._fault, self._path, self._rows = fault, path, rows

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch != FAULTY_STEP - 1:
            return
        if self._fault == "callback":
            keep_waiting(self._path)
        if self._fault == "evaluate":
            self.model.evaluate(self._rows, verbose=0)
        if self._fault == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._fault == "epoch end":
            keep_waiting(self._path)


def batches(fault: str, path: Path) -> tf.data.Dataset:
    """Batches of two rows; the input waits before the fourth if that is the fault."""

    def rows() -> Iterator[np.ndarray]:
        for number in range(STEPS):
            if fault == "input" and number == FAULTY_STEP - 1:
                keep_waiting(path)
            yield np.full([2, 3], number, np.float32)

    spec = tf.TensorSpec([2, 3], tf.float32)
    dataset = tf.data.Dataset.from_generator(rows, output_signature=spec)
    dataset = dataset.map(lambda x: (x, x[:, :1]))
    return dataset.apply(tf.data.experimental.assert_cardinality(STEPS))


def main() -> None:
    folder, faults = Path(sys.argv[1]), sys.argv[2:]
    strategy = strategies.multi_worker_mirrored_strategy()
    is_at_fault = strategy.cluster_resolver.task_id == 1
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    for fault in faults:
        rendezvous.exchange(strategy, f"next fault: {fault}")
        path = folder / fault.replace(" ", "-")
        own = fault if is_at_fault else ""
        if own == "outside":
            keep_waiting(path)
        rows = batches(own, path)
        model.fit(rows, callbacks=[OnOneWorker(own, path, rows)], verbose=0)
        wait_for(Path(f"{path}-over"))  # the worker that waited has said that it continues


if __name__ == "__main__":
    main()
