"""Program: a worker that reduces 4 MiB a step, with Monitor.

tfscale launch --num_workers=2 -- python -m ...sending_training FOLDER ring
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale

WIDTH, STEPS, ROWS = 1024, 40, 8


def main(folder: Path, all_reduce: str) -> None:
    """Trains, and writes what was counted."""
    strategy = strategies.multi_worker_mirrored_strategy(all_reduce=all_reduce)
    with strategy.scope():
        model = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(WIDTH)])
        model.compile("sgd", "mse")
    rows = np.ones([ROWS * STEPS, WIDTH], "float32")
    monitor = tfscale.callbacks.Monitor(folder, every_seconds=0.2)
    model.fit(rows, rows, batch_size=ROWS, callbacks=[monitor], verbose=0)
    spec = tf.TensorSpec([ROWS // 2, WIDTH])
    found = tfscale.monitor.training_collectives(model, (spec, spec))
    if strategies.is_chief(strategy):
        line = {"given": dict(found.given), "sent": found.sent}
        (folder / "given.json").write_text(json.dumps(line), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
