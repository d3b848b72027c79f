"""Program: training with checkpoints that makes a model smaller, and may kill itself in the middle.

    python killed_training.py KIND FOLDER REPLICAS KILL_AFTER LAST

KIND is pruned, clustered or rounded. Trains in float64, is killed after so many steps (0: never),
and writes the weights and what else the kind keeps to FOLDER/LAST.npz.
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
from tests.unit.tfscale.shrink.clustering.clustered_by_hand import VALUES, slow, sparse_network
from tests.unit.tfscale.shrink.pruning.pruned_by_hand import fitted, network, sgd
from tests.unit.tfscale.shrink.quantization import aware_training
from tfscale.callbacks import Checkpoint
from tfscale.shrink import Cluster, CubicSparsity, Prune

AVERAGED = {"use_ema": True, "ema_momentum": 0.75}


class KillAfter(keras.callbacks.Callback):
    """Kills this process after so many steps, once what was saved is on the disk."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.model.optimizer.iterations.numpy() == self.steps:
            os.kill(os.getpid(), signal.SIGKILL)


def pruned(strategy: Any, *callbacks: Any) -> dict[str, Any]:
    prune = Prune(CubicSparsity(0.75, begin=2, end=14, every=3), score="movement", scope="global")
    model = network(strategy, sgd(momentum=0.5, **AVERAGED))
    fitted(model, prune, *callbacks)
    return {**_weights(model), **prune.state_arrays(), "steps": prune.steps}


def clustered(strategy: Any, *callbacks: Any) -> dict[str, Any]:
    cluster = Cluster(VALUES)
    model = sparse_network(strategy, slow(momentum=0.5, **AVERAGED))
    fitted(model, cluster, *callbacks)
    return {**_weights(model), **cluster.state_arrays()}


def rounded(strategy: Any, *callbacks: Any) -> dict[str, Any]:
    model = aware_training.aware_network(strategy, optimizer=AVERAGED)
    aware_training.fitted(model, 7, *callbacks, epochs=4)
    predictions = model.predict(aware_training.IMAGES, verbose=0)
    return {**_weights(model), "predictions": predictions}


def _weights(model: keras.Model) -> dict[str, Any]:
    named = {f"weight {i}": weight for i, weight in enumerate(model.get_weights())}
    return named | {f"slot {i}": v.numpy() for i, v in enumerate(model.optimizer.variables)}


KINDS = {"pruned": pruned, "clustered": clustered, "rounded": rounded}


def main() -> None:
    kind, folder, replicas, kill_after, last = sys.argv[1:]
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    strategy = strategies.mirrored_strategy(int(replicas))
    keras.utils.set_random_seed(0)
    checkpoint = Checkpoint(folder, every=2, asynchronous=False)
    found = KINDS[kind](strategy, KillAfter(int(kill_after)), checkpoint)
    np.savez(Path(folder) / f"{last}.npz", **found)


if __name__ == "__main__":
    main()
