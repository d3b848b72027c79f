"""Reduces the learning rate on a plateau, with any schedule."""

from __future__ import annotations

import math
from typing import Any

import keras

from strategies.extension import number, one_of, text, whole_number
from tfscale.checkpoints import schema
from tfscale.schedules import Adjustable, adjustable_schedules
from tfscale.schedules.adjustable_schedule import restore_factors

MODES = ("min", "max")


class ReduceOnPlateau(keras.callbacks.Callback):
    """Multiplies a learning-rate schedule by a factor when a value has stopped improving.

    Keras's `ReduceLROnPlateau` needs a constant learning rate. This callback needs a learning rate
    made by `tfscale.schedules.adjustable(schedule)`, and changes its `factor`; the schedule itself
    continues. Every worker sees the same values at the end of an epoch, so all decide equally.

    The logs of an epoch receive `learning_rate_factor`, the factor that the epoch was trained with.
    A second `fit` continues the counts of the first. `state` and `restore` carry them over to
    another process.

    Args:
        monitor: Name of the value in the logs of an epoch.
        factor: Multiplier for the schedule's factor, above 0 and below 1.
        patience: Epochs without an improvement before a reduction. Positive.
        mode: "min" if the value should fall, "max" if it should rise.
        min_delta: Smallest change that counts as an improvement, in the value's unit, at least 0.
        cooldown: Epochs after a reduction in which epochs are not counted, at least 0.
        min_factor: Lower limit of the schedule's factor. From 0 to 1.
        validation_freq: As passed to `fit`. Epochs without validation are skipped if `monitor` is
            not in their logs. Positive.

    Raises:
        ValueError: If an argument is out of range. When training begins, if the optimizer's rate is
            not an `adjustable` schedule. At the end of an epoch, if `monitor` is not in its logs.

    Example:
        >>> cosine = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=100)
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(tfscale.schedules.adjustable(cosine)), "mse")
        >>> watch = ReduceOnPlateau("loss", factor=0.5, patience=2)
        >>> history = model.fit(rows, targets, epochs=20, callbacks=[watch], verbose=0)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "min",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_factor: float = 0.0,
        validation_freq: int = 1,
    ) -> None:
        super().__init__()
        self.monitor = text("monitor", monitor)
        self.factor = number("factor", factor, "above 0 and below 1", lambda f: 0 < f < 1)
        self.patience = whole_number("patience", patience, cure="Count epochs.")
        self.mode = one_of("mode", mode, MODES)
        self.min_delta = number("min_delta", min_delta, "at least 0", lambda d: d >= 0)
        self.cooldown = whole_number("cooldown", cooldown, at_least=0, cure="Count epochs.")
        self.min_factor = number("min_factor", min_factor, "from 0 to 1", lambda f: 0 <= f <= 1)
        self.validation_freq = whole_number("validation_freq", validation_freq)
        self.best: float | None = None
        self.wait = 0
        self.cooldown_left = 0

    def state(self) -> dict[str, Any]:
        """Returns the state for a resumed run, as plain numbers."""
        return {
            "best": self.best,
            "wait": self.wait,
            "cooldown_left": self.cooldown_left,
            "factors": [schedule.factor for schedule in self._schedules()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned, also in another process. The model must be set.

        Raises:
            ValueError: If `state` is malformed or for another number of schedules. Nothing is
                changed then.
        """
        schema.record(state, "state", ("best", "wait", "cooldown_left", "factors"))
        best = state["best"]
        best = None if best is None else schema.number(best, "state.best")
        wait = schema.integer(state["wait"], "state.wait")
        cooldown_left = schema.integer(state["cooldown_left"], "state.cooldown_left")
        restore_factors(self._schedules(), state["factors"])
        self.best, self.wait, self.cooldown_left = best, wait, cooldown_left

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks before the first step that the optimizer's rate is adjustable."""
        self._schedules()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts epochs without an improvement, and reduces the factor after `patience` of them."""
        logs = {} if logs is None else logs
        schedules = self._schedules()
        logs["learning_rate_factor"] = schedules[0].factor
        if self.monitor not in logs:
            if (epoch + 1) % self.validation_freq != 0:
                return
            raise ValueError(
                f"`monitor` must be in the logs of epoch {epoch}: {', '.join(sorted(logs))}. "
                f"Received: monitor={self.monitor!r}. Pass validation_data to `fit`, or monitor "
                "another value."
            )
        value = float(logs[self.monitor])
        is_cooling = self.cooldown_left > 0
        self.cooldown_left -= is_cooling
        if self._is_improvement(value):
            self.best = value
            self.wait = 0
        elif not is_cooling:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(schedules)

    def _is_improvement(self, value: float) -> bool:
        if self.best is None or math.isnan(self.best):
            return True
        gain = self.best - value if self.mode == "min" else value - self.best
        return gain > self.min_delta

    def _reduce(self, schedules: list[Adjustable]) -> None:
        for schedule in schedules:
            if schedule.factor > self.min_factor:
                schedule.factor = max(schedule.factor * self.factor, self.min_factor)
        self.cooldown_left = self.cooldown
        self.wait = 0

    def _schedules(self) -> list[Adjustable]:
        found = list(adjustable_schedules(self.model.optimizer))
        if not found:
            raise ValueError(
                "`learning_rate` of the optimizer must be an adjustable schedule. Received: "
                f"optimizer={self.model.optimizer!r}. "
                "Build it with tfscale.schedules.adjustable(schedule)."
            )
        return found
