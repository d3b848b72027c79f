"""What a training records while it runs, so that `notes` can compare two runs bit for bit."""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.faults.lines import EPOCHS_LINE, MEMORY_LINE, RESUMED_LINE, STEP_LINE
from tests.faults.training import Training
from tests.memory import resident_bytes, trim
from tfscale.callbacks import Checkpoint


class RowsSeen(keras.layers.Layer):
    """Records the numbers of the rows that are trained on, the last column; returns the others.

    They are recorded in the step, because an input pipeline reads ahead.

    Args:
        file: Gets a line per step and replica: the number of the replica, and those of its rows.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(dtype="float32")  # float16 counts to 2048 only
        self._stream = f"file://{file}"

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Takes [batch, columns + 1]."""
        if training:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            rows = tf.cast(inputs[:, -1], tf.int32)
            tf.print(replica, rows, output_stream=self._stream, summarize=-1)
        return inputs[:, :-1]

    def compute_output_shape(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """One column less."""
        return (*shape[:-1], shape[-1] - 1)


class Notes(keras.callbacks.Callback):
    """Prints every step, and records the logs at the end of every epoch.

    Args:
        training: Contains the folder.
        worker: Index of this worker.
        checkpoint: Knows where this `fit` began.
    """

    def __init__(self, training: Training, worker: int, checkpoint: Checkpoint) -> None:
        super().__init__()
        self._training, self._worker, self._checkpoint = training, worker, checkpoint
        self._batches = 0
        self._ends: list[float] = []

    def step_seconds(self) -> float:
        """Returns the median time between the ends of two steps; NaN for a single step."""
        between = [end - begin for begin, end in itertools.pairwise(self._ends)]
        return statistics.median(between) if between else math.nan

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins to count."""
        self._batches = self._checkpoint.position.batches
        self._training.note("from", self._worker).write_text(str(self._batches), "utf-8")
        print(f"{RESUMED_LINE}{self._batches}", flush=True)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Says that the first epoch of this start begins."""
        if not self._ends:
            print(EPOCHS_LINE, flush=True)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts."""
        self._batches += 1
        self._ends.append(time.perf_counter())
        print(f"{STEP_LINE}{self._batches}", flush=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Appends the logs of the epoch, which JSON keeps bit for bit, and prints the memory."""
        line = json.dumps([epoch, {name: float(value) for name, value in (logs or {}).items()}])
        with self._training.note("epochs", self._worker).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if sys.platform == "linux":
            trim()
            print(f"{MEMORY_LINE}{self._batches} {resident_bytes()}", flush=True)


def write_state(model: keras.Model, file: Path) -> None:
    """Writes all variables of a model and its optimizer atomically."""
    variables = enumerate([*model.variables, *model.optimizer.variables])
    values: dict[str, Any] = {str(index): variable.numpy() for index, variable in variables}
    part = file.with_name(file.name + ".part")
    with part.open("wb") as stream:
        np.savez(stream, **values)
        stream.flush()
        os.fsync(stream.fileno())
    part.rename(file)
