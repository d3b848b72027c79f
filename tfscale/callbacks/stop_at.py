"""Ends training when a value reaches a target."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import keras

from strategies import is_chief
from strategies.extension import announce, number, one_of, text, whole_number

MODES = ("auto", "min", "max")
_RISING = ("accuracy", "acc", "auc", "precision", "recall", "_score", "io_u", "iou")
_FALLING = (
    "loss",
    "error",
    "mae",
    "mse",
    "mape",
    "msle",
    "rmse",
    "crossentropy",
    "divergence",
    "hinge",
)


@dataclass(frozen=True)
class Reached:
    """When a target was reached.

    Attributes:
        epoch: The epoch, from 0 as in `fit`.
        step: Number of training steps of this `fit`.
        seconds: Seconds since the beginning of `fit`, on this worker.
        value: The value at that time, in its unit.
    """

    epoch: int
    step: int
    seconds: float
    value: float


class StopAt(keras.callbacks.Callback):
    """Ends `fit` when a logged value reaches a target, and records when.

    The logs of an epoch cover all replicas and workers, so all stop together.

    Attributes:
        reached: A `Reached` with the epoch, step and time, or None if the target is not reached.

    Args:
        monitor: Name of the value in the logs, such as "val_accuracy" or "loss".
        value: The target, in the value's unit. It is reached if the value is equal or better.
        mode: "min" if the value should fall, "max" if it should rise. "auto" decides by the names
            of Keras's losses and metrics.
        every_steps: Also checks every so many steps, with the mean since the beginning of the
            epoch. With several workers these logs are up to 16 executions old. Positive, or None to
            check at the end of epochs only, when validation values are available.
        validation_freq: As passed to `fit`. Epochs without validation are skipped if `monitor` is
            not in their logs. Positive.

    Raises:
        ValueError: If an argument is out of range, or `mode` is "auto" and the name is unknown. At
            the end of an epoch, if `monitor` is not in its logs.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> target = StopAt("loss", 1e-3)
        >>> history = model.fit(rows, targets, epochs=500, callbacks=[target], verbose=0)
        >>> target.reached.value <= 1e-3
        True
    """

    def __init__(
        self,
        monitor: str,
        value: float,
        *,
        mode: str = "auto",
        every_steps: int | None = None,
        validation_freq: int = 1,
    ) -> None:
        super().__init__()
        self.monitor = text("monitor", monitor)
        self.value = number("value", value, cure=f"Pass the {monitor} to stop at.")
        self.mode = _mode(monitor, mode)
        cure = "Omit it to check at the end of every epoch."
        self.every_steps = (
            None if every_steps is None else whole_number("every_steps", every_steps, cure=cure)
        )
        self.validation_freq = whole_number("validation_freq", validation_freq, cure=cure)
        self.reached: Reached | None = None
        self._steps = 0
        self._epoch = 0
        self._first = 0
        self._began = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self.reached = None
        self._steps = 0
        self._began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the first step of the execution."""
        self._first = batch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the value after every `every_steps` steps."""
        before = self._steps
        self._steps += batch - self._first + 1
        every = self.every_steps
        if every is not None and before // every < self._steps // every:
            self._check(logs or {})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the value at the end of an epoch."""
        logs = logs or {}
        if self.monitor not in logs:
            if (epoch + 1) % self.validation_freq != 0:
                return
            raise ValueError(
                f"`monitor` must be in the logs of epoch {epoch}: {', '.join(sorted(logs))}. "
                f"Received: monitor={self.monitor!r}. Pass validation_data to `fit`, or monitor "
                "another value."
            )
        self._check(logs)

    def _check(self, logs: dict[str, Any]) -> None:
        if self.reached is not None or self.monitor not in logs:
            return
        value = float(logs[self.monitor])
        if value <= self.value if self.mode == "min" else value >= self.value:
            seconds = time.monotonic() - self._began
            self.reached = Reached(self._epoch, self._steps, seconds, value)
            self.model.stop_training = True
            if is_chief(self.model.distribute_strategy):
                announce(
                    f"{self.monitor} reached {value:.6g} (target {self.value:g}) after "
                    f"{self._steps} steps, {seconds:.1f} s, in epoch {self._epoch + 1}."
                )


def _mode(monitor: str, mode: str) -> str:
    one_of("mode", mode, MODES, cure="Omit it for a loss or metric of Keras.")
    name = monitor.removeprefix("val_")
    if mode == "auto" and name.endswith(_RISING):
        return "max"
    if mode == "auto" and name.endswith(_FALLING):
        return "min"
    if mode == "auto":
        raise ValueError(
            f"`mode` must be min or max for a value with an unknown name. Received: "
            f"monitor={monitor!r}. Pass mode='min' if it should fall, 'max' if it should rise."
        )
    return mode
