"""Records the metrics of each epoch during training, and writes them as CSV.

log = TrainingLog(schedule)
model.fit(train, epochs=10, callbacks=[log])
print(log.csv())
"""

from __future__ import annotations

import csv
import datetime
import importlib.util
import io
import math
import time
from collections.abc import Callable
from typing import Any

import keras

from tfscale.checkpoints import schema

FIELDS = ("epoch", "step", "learning_rate", "seconds")


class TrainingLog(keras.callbacks.Callback):
    """Records, at the end of each epoch, its metrics and the progress of the training.

    Does not communicate with other workers. May be a callback of several `fit` calls, one after the
    other.

    Args:
        schedule: The learning rate as a function of the optimizer's updates.
        clock: Returns seconds from any origin.

    Attributes:
        rows: One dict per epoch: `FIELDS`, then the epoch's metrics. `epoch` counts from 1, `step`
            the optimizer's updates so far, `learning_rate` is that of the last of them.
        first_step_ended: The clock after the first step, including its compilation, or None.
    """

    # The only work between steps is to read a clock once: no step needs to wait for it.
    async_safe = True
    needs_every_batch = False

    def __init__(
        self, schedule: Callable[[int], Any], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self.first_step_ended: float | None = None
        self._schedule = schedule
        self._clock = clock
        self._epoch_began = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the epoch's clock."""
        self._epoch_began = self._clock()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the end of the first step."""
        if self.first_step_ended is None:
            self.first_step_ended = self._clock()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the epoch."""
        updates = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        # Loss scaling may have skipped all updates so far; then this is the rate of the first one.
        rate = float(keras.ops.convert_to_numpy(self._schedule(max(updates - 1, 0))))
        place = (epoch + 1, updates, rate, self._clock() - self._epoch_began)
        self.rows.append({**dict(zip(FIELDS, place, strict=True)), **(logs or {})})

    def state(self) -> dict[str, Any]:
        """Returns the state for a checkpoint: the rows so far."""
        rows = [{name: float(value) for name, value in row.items()} for row in self.rows]
        return {"rows": rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues after the rows of a checkpoint.

        Raises:
            ValueError: If the state does not come from `state`.
        """
        rows = schema.listed(schema.record(state, "state", ("rows",))["rows"], "state.rows")
        self.rows = [_row(row, f"state.rows[{i}]") for i, row in enumerate(rows)]

    @property
    def history(self) -> dict[str, list[float]]:
        """The metrics by name, one value per epoch, as in Keras's `History.history`."""
        names = [name for row in self.rows[:1] for name in row if name not in FIELDS]
        return {name: [float(row[name]) for row in self.rows] for name in names}

    def column(self, field: str) -> list[float]:
        """Returns one of `FIELDS`, one value per epoch."""
        return [row[field] for row in self.rows]

    def csv(self) -> str:
        """Returns all rows as CSV text with a header. Python reads the numbers back exactly."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [*FIELDS, *self.history], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()


def _row(value: Any, where: str) -> dict[str, Any]:
    row: dict[str, Any] = dict(schema.table(value, where))
    for name, number in row.items():
        schema.number(number, f"{where}.{name}")
    for name in ("epoch", "step"):
        if not math.isfinite(row.get(name, math.nan)):
            raise schema.malformed(f"{where}.{name}", "a count", row.get(name))
        row[name] = int(row[name])
    return row


def tensorboard_log(model_dir: str) -> keras.callbacks.Callback:
    """Returns the callback that writes metrics for TensorBoard, to a new folder for this run.

    Args:
        model_dir: The folder of the run; the new folder is in its tensorboard/.

    Raises:
        ImportError: If the package is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            "`--tensorboard` needs the package tensorboard, which TensorFlow does not install "
            'since 2.21. Install it: pip install "tfscale[recipes]".'
        )
    started = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    # Neither the graph nor weights: they take long to write and are rarely read.
    return keras.callbacks.TensorBoard(
        f"{model_dir}/tensorboard/{started}", write_graph=False, update_freq="epoch"
    )
