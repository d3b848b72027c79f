"""Program: an asynchronous job whose chief stops the process of one task in mid-epoch.

    python -m tests.workers.asynchronous_stopped FOLDER TASK [DEADLINE_SECONDS]

TASK is such as "worker-1" or "ps-0"; with DEADLINE_SECONDS there is a Watchdog. FOLDER/TASK.pid
holds the number of each task's process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import strategies
import tfscale

AFTER_SECONDS = 2.5
"""Long enough for the chief to see that all goes on."""


class Stop(keras.callbacks.Callback):
    """Stops a process after the 20th step, once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._steps = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._steps += 1
        if self._steps == 20:
            os.kill(int(self._path.read_text("utf-8")), signal.SIGSTOP)


def main() -> None:
    folder, task, *deadline = sys.argv[1:]
    cluster = strategies.Cluster.from_tf_config(os.environ["TF_CONFIG"])
    own = Path(folder, f"{cluster.task_type}-{cluster.task_index}.pid")
    own.write_text(str(os.getpid()), "utf-8")
    strategy = strategies.parameter_server_strategy(bring_up_seconds=90)
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    callbacks: list[Any] = [tfscale.callbacks.Watchdog(float(d)) for d in deadline]
    x, y = np.ones([64, 3]), np.ones([64, 1])
    callbacks.append(Stop(Path(folder, f"{task}.pid")))
    model.fit(x, y, batch_size=4, epochs=5, callbacks=callbacks, verbose=0)
    time.sleep(AFTER_SECONDS)
    print("trained", flush=True)


if __name__ == "__main__":
    main()
