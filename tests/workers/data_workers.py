"""A program of a job with data workers, whose trainers compare and train on what they get.

    tfscale launch --num_workers=1 --num_data_workers=2 -- python -m tests.workers.data_workers ...

`case` is "killed": worker 0 kills or stops data workers while it reads, and compares every batch
with that of its own pipeline; or "trained": `fit` and `evaluate`, whose weights are left in a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tests.waiting import until
from tests.workers.job import leave

EXAMPLES, BATCH = 50, 8


def slow(batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes milliseconds for a batch, so that kills find questions under way."""

    def wait(x: np.ndarray) -> np.ndarray:
        time.sleep(0.005)
        if os.environ.get("TEST_FAILING"):
            raise OSError("a disk of the data worker has failed")
        return x

    x = tf.numpy_function(wait, [batch[0]], tf.float32)
    x.set_shape(batch[0].shape)
    return x, batch[1]


def noisy(batch: tuple[tf.Tensor, tf.Tensor], seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Adds noise that depends on the seeds."""
    noise = tf.map_fn(
        lambda seed: tf.random.stateless_normal([4], seed), seeds, fn_output_signature=tf.float32
    )
    return batch[0] + noise, batch[1]


def pipelines(strategy: tf.distribute.Strategy) -> list[tfscale.data.Pipeline]:
    """Returns the pipelines of training and validation."""
    x = np.random.default_rng(0).normal(size=(EXAMPLES, 4)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    seed = 1 + int(os.environ.get("TEST_SEED", "0"))
    return [
        tfscale.data.input_pipeline(
            (x, y), strategy, BATCH, seed=seed, preprocess=slow, augment=noisy
        ),
        tfscale.data.input_pipeline((x, y), strategy, BATCH, shuffle=False),
    ]


def disturb(folder: Path, kinds: list[str]) -> None:
    """Kills or stops the next data worker, in turn; `kinds` are names of signals left to send."""
    kind = kinds.pop(0)
    index = len(kinds) % 2
    until(lambda: _sent(folder / f"pid-{index}", getattr(signal, kind)), 120, lambda: kind)
    print(f"{kind} to data worker {index}", flush=True)


def _sent(path: Path, kind: signal.Signals) -> bool:
    """Sends a signal to a data worker, unless it is being restarted."""
    with contextlib.suppress(OSError, ValueError):  # not there yet, half written, or killed before
        os.kill(int(path.read_text()), kind)
        return True
    return False


def killed(folder: Path, kinds: list[str], steps: int) -> None:
    """Compares served batches with those of the own pipeline while data workers fail."""
    strategy = strategies.auto_strategy()
    own, _ = pipelines(strategy)
    served, _ = tfscale.data.served(*pipelines(strategy))
    moments = sorted(random.sample(range(5, steps), len(kinds)))
    own_batches = own.at(1, 3).replica_batches(0)
    served_batches = served.at(1, 3).replica_batches(0)
    longest, before = 0.0, time.monotonic()
    for step, (expected, found) in enumerate(zip(own_batches, served_batches, strict=False)):
        longest, before = max(longest, time.monotonic() - before), time.monotonic()
        for a, b in zip(tf.nest.flatten(expected), tf.nest.flatten(found), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
        if moments and step == moments[0]:
            moments.pop(0)
            disturb(folder, kinds)
        if step == steps:
            break
    leave(folder, "killed", 0, {"steps": steps, "left": len(kinds), "longest": longest})


class Preempted(keras.callbacks.Callback):
    """Sends this process SIGTERM at a batch of its first start, as a scheduler does."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self._left = batch

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Counts batches."""
        self._left -= 1
        if self._left == 0 and os.environ.get("TFSCALE_RESTART") == "0":
            os.kill(os.getpid(), signal.SIGTERM)


def trained(folder: Path, epochs: int, preempted_at: int) -> None:
    """Trains and evaluates; a job that is preempted resumes in mid-epoch."""
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    strategy = strategies.auto_strategy()
    train, validation = tfscale.data.served(*pipelines(strategy))
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.01), "mse")
    checkpoint = tfscale.callbacks.Checkpoint(folder / "checkpoints")
    model.fit(
        train,
        epochs=epochs,
        validation_data=validation,
        callbacks=[Preempted(preempted_at), checkpoint],
        verbose=0,
    )
    start = checkpoint.resumed_from
    flat = np.concatenate([np.ravel(weight) for weight in model.get_weights()])
    found = {
        "weights": flat.tolist(),
        "loss": model.evaluate(validation, verbose=0),
        "resumed_at": start and [start.epoch, start.step],
    }
    leave(folder, "trained", worker_index(), found)


def worker_index() -> int:
    """Returns the index of this worker."""
    return int(json.loads(os.environ["TF_CONFIG"])["task"]["index"])


def main() -> None:
    """Runs the case of the command line."""
    case, folder = sys.argv[1], Path(sys.argv[2])
    index = os.environ.get("TFSCALE_DATA_WORKER")
    if index is not None:
        (folder / f"pid-{index}").write_text(str(os.getpid()))
        if os.environ.get("TEST_SEED_OF_DATA_WORKERS"):
            os.environ["TEST_SEED"] = os.environ["TEST_SEED_OF_DATA_WORKERS"]
    if case == "killed":
        killed(folder, sys.argv[4:], int(sys.argv[3]))
    else:
        trained(folder, epochs=int(sys.argv[3]), preempted_at=int(sys.argv[4]))


if __name__ == "__main__":
    main()
