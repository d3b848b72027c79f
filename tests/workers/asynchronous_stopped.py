"""Program: an asynchronous job in which the chief stops the process of one task in mid-epoch.

    python -m tests.workers.asynchronous_stopped FOLDER TASK [DEADLINE_SECONDS]

TASK is a name such as "worker-1" or "ps-0". With DEADLINE_SECONDS there is a Watchdog; without,
the job ends when the test has made FOLDER/over. FOLDER/TASK.pid is the process id of each task.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

import strategies
import tfscale
from tests.workers.job import wait_for


class Stop(keras.callbacks.Callback):
    """Stops a process once, after the 20th step."""

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
    wait_for(Path(folder, "over"))  # the chief has said that it continues
    print("trained", flush=True)


if __name__ == "__main__":
    main()
