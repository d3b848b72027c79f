"""Reports the logs of each epoch to `tfscale sweep`."""

from __future__ import annotations

from typing import Any

import keras

from strategies import is_chief
from tfscale.sweep import report_trial


class ReportTrial(keras.callbacks.Callback):
    """Reports the logs of each epoch to `tfscale sweep`, which may end the trial for them.

    The step of a report is the number of epochs so far. Outside of a sweep it does nothing. Of
    several workers the chief reports.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(rows, targets, callbacks=[ReportTrial()], verbose=0)
    """

    async_safe = True  # reads nothing between steps
    needs_every_batch = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports them."""
        if not is_chief(self.model.distribute_strategy):
            return
        values = {name: value for name, value in (logs or {}).items() if _is_number(value)}
        report_trial(values, step=epoch + 1)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
