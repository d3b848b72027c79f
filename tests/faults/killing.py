"""A process that kills itself at the moment of an `Interruption`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import keras

from tests.faults.interruption import (
    SAVE_BEGINS,
    SAVE_ENDS,
    SAVE_HALF,
    STEP,
    VALIDATION,
    Interruption,
)
from tfscale.callbacks import Checkpoint


class Killer(keras.callbacks.Callback):
    """Kills this process in a step or a validation.

    Args:
        interruption: When.
        checkpoint: Knows where this `fit` began.
    """

    def __init__(self, interruption: Interruption, checkpoint: Checkpoint) -> None:
        super().__init__()
        self._when = interruption
        self._checkpoint = checkpoint
        self._batch = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins to count."""
        self._batch = self._checkpoint.position.batches

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Begins the countdown in another thread, while the step goes on."""
        self._batch += 1
        if self._when.moment == STEP and self._batch == self._when.batch:
            threading.Thread(target=self._kill_later, daemon=True).start()

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Counts the batches of a validation."""
        when = (VALIDATION, self._batch, float(batch))
        if when == (self._when.moment, self._when.batch, self._when.part):
            kill()

    def _kill_later(self) -> None:
        time.sleep(self._when.part / 1000)
        kill()


def kill_in_save(interruption: Interruption) -> None:
    """Kills this process while it writes a checkpoint, at an event of Python's audit.

    Args:
        interruption: One of SAVES. The audit cannot be stopped, so neither can this.
    """
    folder = f".step-{interruption.batch:012d}."  # a random part and .partial follow

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename") or folder not in str(arguments[0]):
            return
        file = os.path.basename(str(arguments[0]))  # noqa: PTH119 - no import within an audit
        if event == "os.rename":
            moment = SAVE_ENDS
        else:
            moment = SAVE_HALF if file.startswith("manifest") else SAVE_BEGINS
        if moment == interruption.moment:
            kill()

    sys.addaudithook(see)


def kill() -> None:
    """Ends this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)
