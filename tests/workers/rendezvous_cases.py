"""Cases of messages between workers, and of refusals that leave the cluster usable."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from strategies.coordination import rendezvous
from strategies.coordination.data_agreement import (
    agreed_seed,
    refuse_disagreeing_shuffles,
    shuffle_seeds,
)
from strategies.keras_support.model.checks import refuse_impossible
from strategies.keras_support.model.replica_values import gathered as gather_rows
from strategies.keras_support.model.replica_values import replica_values
from strategies.progress import NoMarks, followed, watched
from tests.workers.job import Found, wait_for
from tests.workers.small_models import regression


def answers(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    return {
        "own": rendezvous.exchange(strategy, "who?", f"I am {index}\nof 2"),
        "none": rendezvous.exchange(strategy, "nothing?"),
    }


def different_questions(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    try:
        rendezvous.exchange(strategy, f"question {index}")
    except RuntimeError as error:
        return {"error": str(error)}
    return {}


def one_is_late(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Worker 1 comes when worker 0 has given up; the rendezvous after that works."""
    given_up, found = folder / "given-up", ""
    default = rendezvous.DEADLINE_SECONDS
    if index == 0:
        rendezvous.DEADLINE_SECONDS = 0.5
        try:
            rendezvous.exchange(strategy, "lunch?")
        except TimeoutError as error:
            found = str(error)
        rendezvous.DEADLINE_SECONDS = default
        given_up.touch()
    else:
        wait_for(given_up)
        rendezvous.exchange(strategy, "lunch?")
    return {"error": found, "afterwards": rendezvous.exchange(strategy, "dinner?", str(index))}


def stray_metric(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    metric = keras.metrics.MeanAbsoluteError(name="stray")
    model = regression(strategy, metrics=[metric])
    with strategy.scope():
        model._symbolic_build(data_batch=(tf.zeros([2, 3]), tf.zeros([2, 1])))
    try:
        refuse_impossible(model)
    except ValueError as error:
        return {"error": str(error)}
    return {}


def metric_parts(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Reads each worker's part of a metric four times, and records the phase of each trace."""
    with strategy.scope():
        total = keras.metrics.Sum(name="parts").total
    strategy.experimental_local_results(total.value)[0].assign(index + 1.0)
    phases: list[str] = []

    def gathered(*arguments: Any) -> Any:
        progress = watched()
        assert progress is not None
        phases.append(progress.place().phase)
        return gather_rows(*arguments)

    with (
        mock.patch("strategies.keras_support.model.replica_values.gathered", gathered),
        followed(NoMarks(), "fit"),
    ):
        reads = [replica_values(strategy, [total]) for _ in range(4)]
    return {"reads": [read.tolist() for (read,) in reads], "phases": phases}


def shuffles(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Whether each kind of shuffle is accepted; nothing is trained."""
    numbers = tf.data.Dataset.range(8)
    inside = numbers.interleave(lambda i: tf.data.Dataset.range(i).shuffle(4))
    keras.utils.set_random_seed(3)
    global_seed = numbers.shuffle(4)
    tf.random.set_seed(None)
    kinds = {
        "same seed": numbers.shuffle(4, seed=5).batch(2),
        "global seed": global_seed,
        "seeded inside": numbers.interleave(lambda i: tf.data.Dataset.range(i).shuffle(4, seed=6)),
        "no shuffle": numbers.batch(2),
        "no seed": numbers.shuffle(4).batch(2),
        "no seed, repeated": numbers.repeat(2).shuffle(4).map(lambda i: i + 1),
        "no seed, fused": numbers.shuffle(4).repeat(2),
        "other seeds": numbers.shuffle(4, seed=10 + index),
        "inside": inside.batch(2),
        "one worker only": numbers.shuffle(4, seed=5) if index else numbers,
    }
    found: Found = {}
    for name, dataset in kinds.items():
        try:
            refuse_disagreeing_shuffles(strategy, dataset)
            found[name] = "accepted"
        except ValueError as error:
            found[name] = str(error)
    found["seeds inside"] = shuffle_seeds(inside)
    return found


def seeds(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """The numbers drawn inside `agreed_seed`, and the global seed after it."""
    found: Found = {}
    for name, seed in (("none", None), ("different", 20 + index), ("same", 30)):
        tf.random.set_seed(seed)
        with agreed_seed(strategy):
            found[name] = [int(i) for i in tf.data.Dataset.range(50).shuffle(50)]
        found[f"{name}, left"] = context.global_seed()
    tf.random.set_seed(30)
    found["one device"] = [int(i) for i in tf.data.Dataset.range(50).shuffle(50)]
    tf.random.set_seed(None)
    return found


def drawn_around(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Two numbers of the user's eager random operation, with and without a seed between them."""
    found: Found = {}
    for name in ("between", "without"):
        tf.random.set_seed(40 + index)
        numbers = [float(tf.random.uniform([], seed=3))]
        if name == "between":
            with agreed_seed(strategy):
                pass
        numbers.append(float(tf.random.uniform([], seed=3)))
        found[name] = numbers
    tf.random.set_seed(None)
    return found


def outputs(strategy: tf.distribute.Strategy, folder: Path, index: int) -> Found:
    """Predicts in dtypes that TensorFlow's collectives cannot gather."""
    found: Found = {}
    for dtype in ("bfloat16", "bool", "uint8", "int64"):
        with strategy.scope():
            inputs = keras.Input((1,))
            model = keras.Model(inputs, keras.ops.cast(inputs, dtype))
        predicted = model.predict(np.arange(5.0)[:, None], batch_size=3, verbose=0)
        found[dtype] = [str(predicted.dtype), predicted[:, 0].astype(float).tolist()]
    return found


CASES = (
    answers,
    different_questions,
    one_is_late,
    stray_metric,
    metric_parts,
    shuffles,
    seeds,
    drawn_around,
    outputs,
)
