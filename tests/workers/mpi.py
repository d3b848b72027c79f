"""Program: one worker of a job whose collectives run in MPI.

    python -m tests.workers.mpi FOLDER CASE

The workers' values follow from their index, so every worker can compute the expected results with
NumPy, and results that must be the same bits are left as hexadecimal text.
"""

from __future__ import annotations

import collections
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
from strategies.collectives.ordered_collectives import OrderedCollectives
from tests.workers.job import Found, leave

REDUCED = ("float32", "float64", "int32", "int64", "float16", "bfloat16")
SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (7, 3), (100_003,))


def values(shape: tuple[int, ...], dtype: str, index: int) -> np.ndarray:
    """Small integers, whose sums every dtype represents exactly; different on each worker."""
    drawn = np.random.default_rng(index).integers(-20, 20, shape)
    return np.asarray(drawn).astype(tf.as_dtype(dtype).as_numpy_dtype)


def sums(strategy: tf.distribute.Strategy, index: int) -> Found:
    """All-reduces in a function, of each dtype and shape; returns those that are not NumPy's."""
    count = strategy.num_replicas_in_sync

    @tf.function
    def reduced(x: tf.Tensor) -> tf.Tensor:
        def total(x: tf.Tensor) -> tf.Tensor:
            return tf.distribute.get_replica_context().all_reduce("SUM", tf.identity(x))

        return strategy.run(total, (x,))

    wrong, refused = [], []
    for dtype in REDUCED:
        for shape in SHAPES:
            parts = [values(shape, dtype, worker) for worker in range(count)]
            total = reduced(tf.constant(parts[index], dtype)).numpy()
            expected = np.sum([part.astype("float64") for part in parts], axis=0)
            if not np.array_equal(total.astype("float64"), expected):
                wrong.append([dtype, shape])
    for value in (True, "text"):  # refused before MPI sees it, so that the collectives go on
        try:
            reduced(tf.constant([value]))
        except TypeError as error:
            refused.append(str(error))
    noise = np.random.default_rng(index).normal(size=5000).astype("float32")
    return {
        "wrong": wrong,
        "refused": refused,
        "bits": reduced(tf.constant(noise)).numpy().tobytes().hex(),
    }


def rows(strategy: tf.distribute.Strategy, index: int) -> Found:
    """Gathers different numbers of rows, also of dtypes that MPI does not know."""
    found = {}
    for dtype in ("float32", "bool", "bfloat16", "int64"):
        own = tf.cast(tf.fill([index + 1, 2], index + 1), dtype)
        gathered = strategy.gather(own, axis=0)
        found[dtype] = tf.cast(gathered, tf.float64).numpy()[:, 0].tolist()
    try:
        strategy.gather(tf.constant(["text"]), axis=0)
    except TypeError as error:
        found["string"] = str(error)
    return found


def steps_with_delays(strategy: tf.distribute.Strategy, index: int) -> Found:
    """Many steps, each with two independent all-reduces that start at random times."""
    draw = np.random.default_rng(index)

    def delayed(x: np.ndarray) -> np.ndarray:
        if draw.random() < 0.05:
            time.sleep(draw.random() * 2e-3)
        return x

    def step(number: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        own = tf.fill([3], tf.cast(number + replica.replica_id_in_sync_group, tf.float64))
        a, b = (tf.numpy_function(delayed, [x], tf.float64) for x in (own, 2 * own))
        a.set_shape([3])
        b.set_shape([3])
        a, b = replica.all_reduce("SUM", a), replica.all_reduce("SUM", b)
        expected = tf.cast(2 * number + 1, tf.float64)
        is_wrong = tf.reduce_any(a != expected) | tf.reduce_any(b != 2 * expected)
        return tf.cast(is_wrong, tf.int32)

    @tf.function
    def steps(first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        wrong = tf.constant(0)
        for number in tf.range(first, first + count):
            wrong += strategy.run(step, (number,))
        return wrong

    together, count = 100, int(os.environ.get("STEPS", "1000"))
    wrong = sum(
        int(steps(tf.constant(first), tf.constant(together))) for first in range(0, count, together)
    )
    return {"steps": count, "wrong": wrong}


def training(strategy: tf.distribute.Strategy, index: int) -> Found:
    """A model with an embedding, in float64, and how many collectives a step of it takes."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((4,), dtype="int32"),
                keras.layers.Embedding(30, 3),
                keras.layers.Flatten(),
                keras.layers.Dense(5, "tanh"),
                keras.layers.Dense(1),
            ]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 30, [26, 4]), draw.normal(size=[26, 1])
    history = model.fit(x, y, batch_size=6, epochs=2, shuffle=False, verbose=0).history
    return {"history": history, "weights": [w.tobytes().hex() for w in model.get_weights()]}


def collectives_of_a_step(strategy: tf.distribute.Strategy, index: int) -> Found:
    """How many collectives of each size 20 more steps take, with a metric and the loss."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(1)])
        model.compile("adam", "mse", metrics=["mae"])
    x, y = np.ones([50 * 4, 8]), np.ones([50 * 4, 1])  # more than is read
    counts = []
    for steps in (5, 5, 25):  # the first makes variables
        before = STARTED.copy()
        model.fit(x, y, batch_size=4, steps_per_epoch=steps, verbose=0)
        counts.append(STARTED - before)
    return {"more": dict(counts[2] - counts[1])}


def another_shape(strategy: tf.distribute.Strategy, index: int) -> Found:
    """The last worker reduces another shape; all must refuse it."""
    is_last = index == strategy.num_replicas_in_sync - 1
    try:
        strategy.run(
            lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.ones([3 + is_last]))
        )
    except Exception as error:
        return {"error": str(error)}
    return {"error": ""}


def ended(strategy: tf.distribute.Strategy, index: int) -> Found:
    """The first worker is stopped, killed or fails in a step; the other must end."""
    how = os.environ["HOW_IT_ENDS"]

    class End(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 5 and index == int(how[-1]):
                if how.startswith("raise"):
                    raise OSError("the disk is full")
                number = signal.SIGSTOP if how.startswith("stop") else signal.SIGKILL
                os.kill(os.getpid(), number)

    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    model.fit(np.ones([4000, 2]), np.ones([4000, 1]), batch_size=2, callbacks=[End()], verbose=0)
    return {}


STARTED: collections.Counter[int] = collections.Counter()
"""Collectives that were started, by the number of elements."""


def count_started() -> None:
    start = OrderedCollectives.start

    def counted(self: Any, kind: Any, own: Any, ticket: int) -> int:
        STARTED[np.size(own)] += 1
        return start(self, kind, own, ticket)

    OrderedCollectives.start = counted  # type: ignore[method-assign]


CASES: tuple[Callable[[tf.distribute.Strategy, int], Found], ...] = (
    sums,
    rows,
    steps_with_delays,
    training,
    collectives_of_a_step,
)


def main() -> None:
    folder, case = Path(sys.argv[1]), sys.argv[2]
    if "IMPORT_MPI" in os.environ:
        from mpi4py import MPI  # initialises MPI, and leaves it with MPI_Finalize at exit
    engine = os.environ.get("ENGINE", "mpi")
    strategy = strategies.multi_worker_mirrored_strategy(all_reduce=engine)
    index = strategy.cluster_resolver.task_id
    count_started()
    keras.config.set_floatx("float64")
    if case != "all":
        found = globals()[case](strategy, index)
    else:
        found = {}
        for function in CASES[: 2 if strategy.num_replicas_in_sync > 2 else None]:
            print(f"{function.__name__}()", flush=True)
            found[function.__name__] = function(strategy, index)
        from mpi4py import MPI

        found["world"] = MPI.COMM_WORLD.size
        maps = Path("/proc/self/maps").read_text("utf-8").splitlines()
        mapped = {path for line in maps for path in line.split() if "mpich_shm" in path}
        found["mapped"] = len(mapped)
        found["files"] = [path for path in mapped if Path(path).exists()]
    leave(folder, case, index, found)
    if "END_WITH" in os.environ:
        sys.exit(int(os.environ["END_WITH"]))


if __name__ == "__main__":
    main()
