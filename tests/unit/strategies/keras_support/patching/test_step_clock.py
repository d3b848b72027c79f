"""A watched `fit` has the same results, and reports where it is."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config

import strategies
from strategies import progress
from strategies.deadline import Deadline
from strategies.keras_support.patching.step_clock import StepClock
from strategies.progress import Marks, Place
from tests.unit.strategies.keras_support.collectives import GraphWatch
from tfscale.callbacks import Watchdog

pytestmark = pytest.mark.own_process

STEPS = 6


@pytest.fixture(scope="module", autouse=True)  # before TensorFlow starts with one logical CPU
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


def regression(strategy: tf.distribute.Strategy, **arguments: Any) -> Any:
    with strategy.scope():
        dense = keras.layers.Dense(1, kernel_initializer="ones", dtype="float64")
        model = keras.Sequential([keras.Input((3,), dtype="float64"), dense])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.5), "mse", **arguments)
    return model


def rows() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.normal(size=[22, 3]), draw.normal(size=[22, 1])


class Looks(keras.callbacks.Callback):
    """Records the reported place of the training at the end of every batch."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.progress: Any = progress._watched
        self.places: list[Place] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.places.append(self.progress.place())

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.places.append(self.progress.place())


@pytest.mark.parametrize(
    ("steps_per_execution", "steps", "batches"),
    [
        pytest.param(1, [1, 2, 3, 4, 5, 6], [1, 2], id="one step an execution"),
        pytest.param(4, [4, 6], [2], id="of six steps an execution takes four, the next two"),
    ],
)
def test_a_watched_training_has_the_same_results_and_its_batches_are_counted(
    strategy: tf.distribute.Strategy, steps_per_execution: int, steps: list[int], batches: list[int]
) -> None:
    x, y = rows()
    looks, found = Looks(), []
    for callbacks in ([], [Watchdog(), looks]):
        model = regression(strategy, steps_per_execution=steps_per_execution)
        data = {"batch_size": 4, "epochs": 2, "validation_data": (x[:5], y[:5])}
        history = model.fit(x, y, shuffle=False, callbacks=callbacks, verbose=0, **data)
        found.append((history.history, [w.tolist() for w in model.get_weights()]))
    assert found[0] == found[1]
    assert looks.places == [
        place
        for epoch in range(2)
        for place in (
            *(Place(epoch, step, "callbacks") for step in steps),
            *(Place(epoch, 6, "evaluate", batch) for batch in batches),
        )
    ]


class Gate:
    """Input that waits before its fourth batch, until it is opened."""

    def __init__(self) -> None:
        self.is_reached = threading.Event()
        self.is_open = threading.Event()

    def batches(self) -> Iterator[np.ndarray]:
        for number in range(STEPS):
            if number == 3:
                self.is_reached.set()
                assert self.is_open.wait(240)
            yield np.full([2, 3], number, np.float64)

    def dataset(self, is_counted: bool) -> Any:
        spec = tf.TensorSpec([2, 3], tf.float64)
        dataset = tf.data.Dataset.from_generator(self.batches, output_signature=spec)
        dataset = dataset.map(lambda x: (x, x[:, :1]))
        count = tf.data.experimental.assert_cardinality(STEPS)
        return dataset.apply(count) if is_counted else dataset


def seen_at(gate: Gate, first: int) -> list[Place]:
    """Waits until the training is at the gate; opens it, and returns the reported place."""
    assert gate.is_reached.wait(240)
    watched, places = progress._watched, []
    assert watched is not None
    deadline = Deadline(120.0)
    while not deadline.is_over():  # the batches before the gate are read ahead
        places.append(watched.place())
        if places[-1].phase == "input" and places[-1].step == first:
            break
        time.sleep(0.05)
    gate.is_open.set()
    return places


@pytest.mark.parametrize("is_counted", [True, False], ids=["in the graph", "from Python"])
def test_another_thread_sees_the_training_wait_for_input(
    strategy: tf.distribute.Strategy, is_counted: bool
) -> None:
    gate, found = Gate(), []
    looker = threading.Thread(target=lambda: found.extend(seen_at(gate, 3)))
    callback, model = Watchdog(), regression(strategy)
    looker.start()
    model.fit(gate.dataset(is_counted), callbacks=[callback], verbose=0)
    looker.join()
    assert found[-1] == Place(0, 3, "input")
    seconds = callback.seconds[0]
    assert set(seconds) == set(progress.PHASES)
    assert all(value >= 0 for value in seconds.values())


def test_the_watch_ends_with_fit_also_if_it_fails(
    strategy: tf.distribute.Strategy,
) -> None:
    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise OSError("the disk is full")

    x, y = rows()
    with pytest.raises(OSError, match="the disk is full"):
        regression(strategy).fit(x, y, callbacks=[Watchdog(), Fails()], verbose=0)
    assert progress._watched is None
    assert not [t for t in threading.enumerate() if t.name == "tfscale watchdog"]


def test_a_model_trained_without_a_watchdog_has_no_marks(
    strategy: tf.distribute.Strategy,
) -> None:
    counts = []
    for callbacks in ([], [Watchdog()]):
        with strategy.scope():
            watch = GraphWatch()
            model = keras.Sequential([keras.Input((3,)), watch, keras.layers.Dense(1)])
            model.compile("sgd", "mse")
        model.fit(*rows(), callbacks=callbacks, verbose=0)
        operations = watch.graphs[-1].get_operations()
        counts.append(sum(operation.type == "Timestamp" for operation in operations))
    assert counts == [0, 4]  # around the input and around the all-reduce


def test_the_marks_are_allowed_if_operations_are_deterministic(
    strategy: tf.distribute.Strategy,
) -> None:
    callback = Watchdog()
    tf.config.experimental.enable_op_determinism()
    try:
        regression(strategy).fit(*rows(), shuffle=False, callbacks=[callback], verbose=0)
    finally:
        config.disable_op_determinism()
    assert 0 < callback.seconds[0]["input"] < 60


def test_marks_without_times_report_the_phase_and_count_batches() -> None:
    clock, found = StepClock(is_timed=False), []

    def look(phase: int, value: Any) -> Any:
        # The mark that begins a phase runs beside it, and the one that ends it after this returns.
        deadline = time.monotonic() + 60
        while (marks := clock.read())[phase] >= 0 and time.monotonic() < deadline:
            time.sleep(0.001)
        found.append(marks)
        return value

    def looked(phase: int, x: tf.Tensor) -> tf.Tensor:
        look_at_phase = functools.partial(look, phase)
        return tf.ensure_shape(tf.numpy_function(look_at_phase, [x], x.dtype), [])

    @tf.function
    def step(x: tf.Tensor) -> tf.Tensor:
        x = clock.around_input(lambda: looked(0, x))
        return clock.around_collective(lambda: looked(1, x), after=x)

    for _ in range(2):
        step(tf.constant(1.0))
    assert found == [Marks(-1, 0, 0), Marks(0, -1, 1), Marks(-1, 0, 1), Marks(0, -1, 2)]
    assert clock.read() == Marks(0, 0, 2)
