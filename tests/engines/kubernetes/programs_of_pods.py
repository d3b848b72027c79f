"""Program of the pods of two tests: a line of losses that does not depend on who computes what.

    python -m tests.engines.kubernetes.programs_of_pods roles|data FOLDER

roles: parameter servers. data: data workers.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

import strategies
import tfscale


class Slowly(keras.callbacks.Callback):
    """Gives a test the time to disturb an epoch."""

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        time.sleep(1)


def main() -> None:
    """Trains, and writes the losses of the epochs."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    if kind == "roles":
        strategy = strategies.parameter_server_strategy()
    else:
        strategy = strategies.auto_strategy()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 8)).astype("float32")
    train = tfscale.data.input_pipeline((x, x[:, :1]), strategy, global_batch_size=32, seed=0)
    train = tfscale.data.served(train)
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.05), "mse")
    history = model.fit(train, epochs=12, verbose=2, callbacks=[Slowly()])
    (folder / "losses.json").write_text(json.dumps(history.history["loss"]))


if __name__ == "__main__":
    main()
