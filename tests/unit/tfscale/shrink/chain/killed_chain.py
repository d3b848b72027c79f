"""Program: a chain that is killed once a file is there, if one is named.

    python killed_chain.py FLOAT FOLDER [PATTERN]

FLOAT is float64, or float32, in which the last stage trains for 8 bits. PATTERN is one of files in
FOLDER/stages. Writes the weights to FOLDER/result.npz. Under `tfscale launch` it trains on all
workers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tfscale.shrink import Chain, compress

CHAINS: dict[str, dict[str, Any]] = {
    "float64": {"channels": 0.25, "sparsity": 0.5, "clusters": 4},
    "float32": {"sparsity": 0.5, "quantize": "aware"},
}
X = np.random.default_rng(1).normal(size=(40, 6))
EPOCHS = 60


def kill_once_there(folder: Path, pattern: str) -> None:
    """Kills this process once a file is there."""
    while not any(folder.glob(pattern)):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    float_type, folder = sys.argv[1], Path(sys.argv[2])
    for pattern in sys.argv[3:]:
        there = (folder / "stages", pattern)
        threading.Thread(target=kill_once_there, args=there, daemon=True).start()
    keras.config.set_floatx(float_type)
    keras.config.set_dtype_policy(float_type)
    tf.config.experimental.enable_op_determinism()
    workers = "TF_CONFIG" in os.environ
    strategy = (
        strategies.multi_worker_mirrored_strategy() if workers else strategies.one_device_strategy()
    )
    keras.utils.set_random_seed(0)
    with strategy.scope():
        layers = [
            keras.Input((6,)),
            keras.layers.Dense(16, "tanh"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(2),
        ]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.Adam(0.01), "mse")
    x = X.astype(float_type)
    result = compress(
        model,
        Chain(**CHAINS[float_type], epochs=EPOCHS),
        tfscale.data.input_pipeline((x, x[:, :2]), strategy, global_batch_size=10, seed=0),
        validation=(x, x[:, :2]),
        file_format="keras" if float_type == "float64" else "litert",
        stages_dir=folder / "stages",
    )
    if not strategies.is_chief(strategy):
        return
    assert not (folder / "stages").exists()
    weights = {str(k): weight for k, weight in enumerate(result.model.get_weights())}
    np.savez(folder / "result.npz", allow_pickle=False, **weights)


if __name__ == "__main__":
    main()
