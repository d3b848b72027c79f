"""Program: one worker of a job with a Watchdog, in which worker CULPRIT has the fault CASE.

    python -m tests.workers.watched FOLDER CASE CULPRIT DEADLINE_SECONDS

The fault comes in epoch 1, before step 4. The file `FOLDER/CASE` contains its time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from strategies.coordination.heartbeats import HeartbeatBoard

FAULTY_STEP = 4
SLOW_SECONDS = 0.25
"""Of each batch of a slow input: 10 s an epoch. A very busy machine adds up to 5 s to a worker."""
PACE_SECONDS = 0.05
"""Of each step after a stop: the others look once a second, and must see steps that are done."""
STEPS = 40
EPOCHS = 3


def note(path: Path) -> None:
    """Writes down the time of the fault."""
    path.with_suffix(".part").write_text(repr(time.time()), "utf-8")
    path.with_suffix(".part").rename(path)


class Fault(keras.callbacks.Callback):
    """Stops, ends or slows this worker after its third step."""

    def __init__(self, case: str, path: Path, board: HeartbeatBoard | None) -> None:
        super().__init__()
        self._board = board
        self._case = case
        self._path = path

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._case == "stop" and self._path.exists():
            time.sleep(PACE_SECONDS)
        if self._case in ("", "slow") or batch != FAULTY_STEP - 2 or self._path.exists():
            return
        if self._board is not None:  # the others must have read where this worker was
            while '"step": 3, "phase": "callbacks"' not in (
                self._board.read(self._board.own, 1) or ""
            ):
                time.sleep(0.1)
        note(self._path)
        if self._case == "loop":
            while True:
                pass
        if self._case in ("stop", "kill"):
            name = {"stop": signal.SIGSTOP, "kill": signal.SIGKILL}[self._case]
            os.kill(os.getpid(), name)
        if self._case == "pause":
            time.sleep(10)
        if self._case == "raise":
            raise ValueError("a row of letters")


def batches(case: str, path: Path) -> tf.data.Dataset:
    """Batches of two rows; the fourth never comes if the input is the fault."""

    def rows() -> Iterator[np.ndarray]:
        for number in range(STEPS):
            if number == FAULTY_STEP - 1 and case == "input":
                note(path)
                threading.Event().wait()
            if case == "slow":
                if not path.exists():
                    note(path)
                time.sleep(SLOW_SECONDS)
            yield np.full([2, 3], number, np.float32)

    spec = tf.TensorSpec([2, 3], tf.float32)
    dataset = tf.data.Dataset.from_generator(rows, output_signature=spec)
    dataset = dataset.map(lambda x: (x, x[:, :1]))
    return dataset.apply(tf.data.experimental.assert_cardinality(STEPS))


def main() -> None:
    folder, case, culprit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    deadline = float(sys.argv[4])
    if "TF_CONFIG" in os.environ:
        strategy = strategies.multi_worker_mirrored_strategy()
        index, board = strategy.cluster_resolver.task_id, HeartbeatBoard(strategy, "fit 0")
    else:
        strategy, index, board = strategies.one_device_strategy(), 0, None
    own = case if index == culprit else ""
    print(f"worker {index} is process {os.getpid()}", flush=True)
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    watchdog = tfscale.callbacks.Watchdog(deadline)
    callbacks = [watchdog, Fault(own, folder / case, board)]
    model.fit(batches(own, folder / case), epochs=EPOCHS, callbacks=callbacks, verbose=0)
    print("trained", watchdog.seconds, flush=True)


if __name__ == "__main__":
    main()
