"""Program: asynchronous training, saved in mid-epoch, whose chief is killed once.

    python -m tfscale launch --num_workers=2 --num_ps=1 --max_restarts=2 -- \
        python -m tests.workers.asynchronous_resumed FOLDER

Every step takes the same off each weight and adds one to every count, so all results are known in
advance. Of 4 epochs of 25 steps, with a checkpoint every 7 steps, the chief dies in the third.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import keras

import strategies
import tfscale
from tests.workers.asynchronous import constant_gradient, counted, ones
from tests.workers.job import leave, wait_for

EPOCHS, EPOCH_STEPS, EVERY = 4, 25, 7
SAVED, KILLED_AT = 63, 66  # step 13 and 16 of the third epoch


class Killed(keras.callbacks.Callback):
    """Kills the chief in its first start, when a checkpoint of mid-epoch has been written."""

    def __init__(self, checkpoint: tfscale.callbacks.Checkpoint) -> None:
        super().__init__()
        self._checkpoint = checkpoint

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        is_first = os.environ["TFSCALE_RESTART"] == "0"
        if is_first and self._checkpoint.position.batches == KILLED_AT - 1:
            wait_for(Path(self._checkpoint.directory.path) / f"step-{SAVED:012d}")
            os.kill(os.getpid(), signal.SIGKILL)


class EpochBatches(keras.callbacks.Callback):
    """Counts the batches that the metrics have seen at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, int] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        (batches,) = (v for v in self.model.metrics_variables if v.path.endswith("batches"))
        self.seen[epoch] = int(batches.numpy())


def main() -> None:
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    folder = Path(sys.argv[1])
    strategy = strategies.parameter_server_strategy(bring_up_seconds=120)
    model = constant_gradient(strategy)
    checkpoint = tfscale.callbacks.Checkpoint(folder / "run", every=EVERY)
    epochs = EpochBatches()
    callbacks = [checkpoint, epochs, Killed(checkpoint)]
    model.fit(ones, steps_per_epoch=EPOCH_STEPS, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    found = counted(model)
    found["epochs"] = epochs.seen
    found["resumed_from"] = vars(checkpoint.resumed_from) if checkpoint.resumed_from else None
    leave(folder, "resumed", 0, found)


if __name__ == "__main__":
    main()
