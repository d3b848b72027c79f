"""How stale an epoch's gradients were, in the logs that all other callbacks see."""

from __future__ import annotations

from typing import Any

import keras

from strategies.keras_support.asynchronous.executions import executions_of
from strategies.progress import watched


class StalenessReport(keras.callbacks.Callback):
    """First in every list of callbacks of asynchronous training; adds to each epoch's logs.

    `staleness` is the mean over the epoch's steps of the updates that other workers applied between
    the moment a step read the weights and the moment it applied its gradient; `max_staleness` is
    the largest. With one worker both are 0. NaN where the step applies nothing with the model's
    own optimizer.
    """

    async_safe = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Forgets what came before, and notes the epoch."""
        progress = watched()
        if progress is not None:
            progress.begin_epoch(epoch)
        executions_of(self.model.distribute_strategy).take_staleness()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the epoch's staleness, in updates."""
        if logs is not None:
            taken = executions_of(self.model.distribute_strategy).take_staleness()
            logs["staleness"] = taken.mean
            logs["max_staleness"] = taken.largest if taken.steps else float("nan")


def with_staleness_report(callbacks: list[Any]) -> list[Any]:
    """Returns the callbacks with the report before them, unless it is there already."""
    if any(isinstance(callback, StalenessReport) for callback in callbacks):
        return callbacks
    return [StalenessReport(), *callbacks]
