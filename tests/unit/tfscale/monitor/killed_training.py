"""Program: trains with Monitor and Checkpoint, notes when what happens, and may kill itself.

    python -m tests.unit.tfscale.monitor.killed_training FOLDER NOTES [STEP]

Every step takes 0.1 s in its graph, every 30th batch takes 1 s, and a checkpoint is saved every 40
steps on a slow disk. In the middle of the step after STEP steps the process is killed as the kernel
does when memory runs out.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tests.unit.tfscale.callbacks.input_wait_training import model
from tfscale.callbacks import Checkpoint, Monitor
from tfscale.monitor.journal import clock

STEPS, EVERY, BEFORE_SECONDS, STEP_SECONDS = 160, 40, 4.0, 0.1
STALL_EVERY, STALL_SECONDS, DISK_SECONDS = 30, 1.0, 0.3
BATCH = 4


class Notes(keras.callbacks.Callback):
    def __init__(self, path: Path, kill_after: int) -> None:
        super().__init__()
        self._path = path
        self._kill_after = kill_after

    def note(self, what: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps([what, clock()])}\n")

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.note(f"begin {batch}")
        if batch == self._kill_after > 0:
            threading.Timer(STEP_SECONDS / 2, self._kill).start()

    def _kill(self) -> None:
        self.note("kill")
        os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.note(f"end {batch}")

    def on_train_end(self, logs: Any = None) -> None:
        self.note("over")


def main() -> None:
    folder = Path(sys.argv[1])
    notes = Notes(Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    time.sleep(BEFORE_SECONDS)
    slow_disk(notes)
    strategy = strategies.one_device_strategy()
    rows = np.arange(BATCH * STEPS, dtype="float32")[:, None]
    data = tfscale.data.input_pipeline(
        (rows, np.ones_like(rows)), strategy, BATCH, shuffle=False, preprocess=slow_input(notes)
    )
    model(strategy, STEP_SECONDS).fit(
        data,
        verbose=0,
        callbacks=[
            notes,  # first, so that what others do after a step is not noted as the step
            Monitor(folder / "monitor"),
            Checkpoint(folder / "saved", every=EVERY, asynchronous=False),
        ],
    )


def slow_disk(notes: Notes) -> None:
    sync = os.fsync

    def slow(fd: Any) -> None:
        notes.note("save")
        time.sleep(DISK_SECONDS)
        sync(fd)

    os.fsync = slow


def slow_input(notes: Notes) -> Any:
    def ready(x: np.ndarray) -> np.ndarray:
        batch = int(x[0, 0]) // BATCH
        if batch % STALL_EVERY == 0:
            time.sleep(STALL_SECONDS)
        notes.note(f"ready {batch}")
        return x / (BATCH * STEPS)

    def stall(batch: Any) -> Any:
        x, y = batch
        return tf.ensure_shape(tf.numpy_function(ready, [x], x.dtype), x.shape), y

    return stall


if __name__ == "__main__":
    main()
