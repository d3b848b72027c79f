"""Program: a task of an asynchronous job; the chief writes its results.

python -m tfscale launch --num_workers=1 --num_ps=1 -- \
    python -m tests.workers.asynchronous FOLDER one_worker
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.data.experimental.ops.testing import sleep

import strategies
import tfscale
from tests.workers.asynchronous_models import Seen, functional, own_step, sequential
from tests.workers.job import Found, leave

X = np.random.default_rng(0).normal(size=(48, 3))
Y = X.sum(1, keepdims=True) + 0.1 * X[:, :1] ** 2
RATE = 2.0**-10
PACE_MICROSECONDS = 40_000

Cluster: TypeAlias = tf.distribute.Strategy
Compiled = Callable[[], keras.Model]


def _trained(build: Compiled, data: Any) -> dict[str, Any]:
    keras.utils.set_random_seed(1)
    model = build()
    history = model.fit(
        data,
        epochs=2,
        steps_per_epoch=12,
        validation_data=(X[:20], Y[:20]) if build is not own_step else None,
        verbose=0,
    ).history
    history = {name: value for name, value in history.items() if "staleness" not in name}
    if build is own_step:
        history = {name: history[name] for name in ("loss", "twice")}
    weights = [weight.ravel() for weight in model.get_weights()]
    moments = [np.ravel(variable.numpy()) for variable in model.optimizer.variables]
    return {"weights": np.concatenate(weights + moments), "history": history}


def compared(strategy: Cluster, build: Compiled, data: Callable[[Any], Any]) -> Found:
    """Trains under the strategy and in stock Keras; returns the largest differences."""
    stock = _trained(build, data(None))
    with strategy.scope():
        ours = _trained(build, data(strategy))
    assert list(stock["history"]) == list(ours["history"]), (stock["history"], ours["history"])
    logs = [np.subtract(ours["history"][name], stock["history"][name]) for name in stock["history"]]
    return {
        "weights": float(np.abs(ours["weights"] - stock["weights"]).max()),
        "logs": float(np.abs(logs).max()),
        "moved": float(np.abs(stock["weights"]).max()),
    }


def in_order(_: Any) -> Any:
    """A dataset of 6 batches, in order."""
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat()


def pipeline(strategy: Any) -> Any:
    """A shuffled pipeline; stock Keras gets the batches that it makes for one device."""
    one_device = tf.distribute.OneDeviceStrategy("CPU:0")
    made = tfscale.data.input_pipeline((X, Y), strategy or one_device, 8, seed=5)
    return made if strategy else made.local(0)


def killed_worker(strategy: Cluster, folder: Path) -> Found:
    """Kills the worker in mid-epoch; the launcher restarts it."""
    model = constant_gradient(strategy)

    def kill(batch: int, logs: Any) -> None:
        if batch == 20:
            os.kill(int((folder / "worker-0.pid").read_text()), signal.SIGKILL)

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=kill)
    model.fit(ones, steps_per_epoch=60, epochs=1, verbose=0, callbacks=[callback])
    return counted(model)


def constant_gradient(
    strategy: Cluster, *of_dropped: Callable[[], keras.metrics.Metric]
) -> keras.Model:
    """Each step takes exactly RATE off each weight.

    Args:
        strategy: The strategy that it trains under.
        *of_dropped: Make metrics of the second output, which dropout makes.
    """
    with strategy.scope():
        inputs = keras.Input((3,))
        dropped = keras.layers.Dropout(0.5, seed=3)(inputs)
        output = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(inputs)
        model = keras.Model(inputs, [output, dropped])

        def own_sum(_: Any, predicted: Any) -> Any:
            return predicted

        losses = [own_sum, lambda _, dropped: 0.0 * dropped]
        metrics = [[Seen()], [metric() for metric in of_dropped]]
        model.compile(keras.optimizers.SGD(RATE), losses, metrics=metrics)
    return model


def ones(context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Batches of two examples, all ones."""
    batch = (
        tf.ones([2, 3], tf.float64),
        (tf.ones([2, 1], tf.float64), tf.ones([2, 3], tf.float64)),
    )
    return tf.data.Dataset.from_tensors(batch)


def counted(model: keras.Model) -> Found:
    """What must equal the number of steps: updates, moves of weights, batches, random draws."""
    seed = next(v for v in model.variables if "seed" in v.path)
    return {
        "iterations": int(model.optimizer.iterations.numpy()),
        "moved": sorted(set((-model.get_weights()[0].ravel() / RATE).tolist())),
        "batches": next(int(v.numpy()) for v in model.metrics_variables if "batches" in v.path),
        "draws": int(np.ravel(seed.numpy())[1]),
        "history": {name: values[-1] for name, values in model.history.history.items()},
    }


def one_worker(strategy: Cluster, folder: Path) -> Found:
    """One worker and one server, compared with one device."""
    return {
        "sequential": compared(strategy, sequential, in_order),
        "functional": compared(strategy, functional, pipeline),
        "own_step": compared(strategy, own_step, in_order),
        "killed": killed_worker(strategy, folder),
    }


def counts(strategy: Cluster, folder: Path) -> Found:
    """Trains for the number of steps in FOLDER/steps."""
    model = constant_gradient(strategy)
    steps = int((folder / "steps").read_text())
    model.fit(ones, steps_per_epoch=steps, epochs=1, verbose=0)
    return counted(model)


def paced(context: tf.distribute.InputContext) -> tf.data.Dataset:
    """The batches of `ones`, slowly, with the worker's index as the target of the second output."""
    worker = tf.fill([2, 3], tf.cast(context.input_pipeline_id, tf.float64))
    batches = ones(context).map(lambda x, y: (x, (y[0], worker)))
    return batches.repeat().apply(sleep(PACE_MICROSECONDS))


class OfLastWorker(keras.metrics.Metric):
    """Counts the batches of worker 1."""

    def __init__(self) -> None:
        super().__init__(name="of_last_worker")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.count.assign_add(tf.cast(y_true[0, 0], self.dtype))

    def result(self) -> Any:
        return tf.identity(self.count.value)


class Progress(keras.callbacks.Callback):
    """Appends lines to a file: the time, an event, all steps so far, worker 1's in the epoch.

    The event is `begin` when training begins, `step` for each step that was scheduled, and `epoch`
    for each epoch that has ended.
    """

    def __init__(self, path: Path, checkpoint: tfscale.callbacks.Checkpoint) -> None:
        super().__init__()
        self._path = path
        self._checkpoint = checkpoint

    def on_train_begin(self, logs: Any = None) -> None:
        at = self._checkpoint.resumed_from
        self._say("begin", at.batches if at else 0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._say("step", self._checkpoint.position.batches)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        (own,) = (count for name, count in logs.items() if "of_last_worker" in name)
        self._say("epoch", self._checkpoint.position.batches, int(own))

    def _say(self, word: str, steps: int, of_last_worker: int = 0) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{time.time():.3f} {word} {steps} {of_last_worker}\n")


def faults(strategy: Cluster, folder: Path) -> Found:
    """Trains 40 epochs of 25 steps, from the last checkpoint if there is one."""
    model = constant_gradient(strategy, OfLastWorker)
    checkpoint = tfscale.callbacks.Checkpoint(folder / "run")
    callbacks = [checkpoint, Progress(folder / "progress", checkpoint)]
    model.fit(paced, steps_per_epoch=25, epochs=40, verbose=0, callbacks=callbacks)
    return counted(model)


CASES = {"one_worker": one_worker, "counts": counts, "faults": faults}


def main() -> None:
    """Trains on the chief; runs a server on the others."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    folder, case = Path(sys.argv[1]), sys.argv[2]
    cluster = strategies.Cluster.from_tf_config(os.environ["TF_CONFIG"])
    task = f"{cluster.task_type}-{cluster.task_index}"
    (folder / f"{task}.pid").write_text(str(os.getpid()))
    strategy = strategies.parameter_server_strategy(bring_up_seconds=90)
    leave(folder, case, 0, CASES[case](strategy, folder))


if __name__ == "__main__":
    main()
