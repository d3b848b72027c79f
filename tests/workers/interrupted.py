"""Program: a training whose checkpoint is not completed until the test allows it.

    python -m tests.workers.interrupted FOLDER

Prints "writing" when all tensors of the second checkpoint are written but not its manifest. The
writer then waits for FOLDER/go while training goes on. Prints "left" when `fit` has ended.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import strategies
import tfscale
from tests.workers.job import wait_for

EVERY = 4
MANIFEST = re.compile(rf"/\.step-{2 * EVERY:012d}\.[0-9a-f]+\.partial/manifest\.json$")
STEP_SECONDS = 0.05
STEPS = 4000


def delay_manifest(go: Path) -> None:
    """Makes the thread that opens the manifest wait until `go` exists."""

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and MANIFEST.search(str(arguments[0])):
            print("writing", flush=True)
            wait_for(go)

    sys.addaudithook(see)


class Paced(keras.callbacks.Callback):
    """Slows training down, so that it lasts long enough."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        time.sleep(STEP_SECONDS)


def main() -> None:
    folder = Path(sys.argv[1])
    delay_manifest(folder / "go")
    if "TF_CONFIG" in os.environ:
        strategy = strategies.multi_worker_mirrored_strategy()
    else:
        strategy = strategies.one_device_strategy("CPU:0")
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("adam", "mse")
    rows = np.ones([4 * STEPS, 1], np.float32)
    checkpoint = tfscale.callbacks.Checkpoint(folder / "run", every=EVERY)
    keras.utils.set_random_seed(1)
    try:
        model.fit(rows, rows, batch_size=4, verbose=0, callbacks=[checkpoint, Paced()])
    finally:
        print("left", flush=True)


if __name__ == "__main__":
    main()
