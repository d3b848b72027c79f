"""Program: a chain that is killed once its first stage is finished, if it is told so.

    python killed_chain.py FOLDER KILL

Writes the weights to FOLDER/result.npz.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np

import strategies
import tfscale
from tfscale.shrink import Chain, compress

X = np.random.default_rng(1).normal(size=(40, 6))


def kill_once_there(path: Path) -> None:
    """Kills this process once a file is there."""
    while not path.exists():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    folder = Path(sys.argv[1])
    if sys.argv[2] == "kill":
        there = (folder / "stages" / "chain.json",)
        threading.Thread(target=kill_once_there, args=there, daemon=True).start()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    strategy = strategies.one_device_strategy()
    keras.utils.set_random_seed(0)
    with strategy.scope():
        layers = [keras.Input((6,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.Adam(0.01), "mse")
    result = compress(
        model,
        Chain(sparsity=0.5, clusters=4, epochs=30),
        tfscale.data.input_pipeline((X, X[:, :2]), strategy, global_batch_size=10, seed=0),
        validation=(X, X[:, :2]),
        file_format="keras",
        stages_dir=folder / "stages",
    )
    assert not (folder / "stages").exists()
    weights = {str(k): weight for k, weight in enumerate(result.model.get_weights())}
    np.savez(folder / "result.npz", allow_pickle=False, **weights)


if __name__ == "__main__":
    main()
