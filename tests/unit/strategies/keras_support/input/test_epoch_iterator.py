"""The batches on which `fit` trains, in which steps, and its messages when they run out.

Row i of every dataset here is the number 2^i, and the model only sums its inputs: the sum of an
epoch shows which rows were in it, and how often.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale.data
from tests.stock_keras import SINCE_3_16

pytestmark = pytest.mark.own_process

ROWS = 20
# Keras 3.16 no longer warns of the end of data of unknown length.
WARNS_OF_UNKNOWN_LENGTH = not SINCE_3_16
ALL = 2**ROWS - 1


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(3)


@keras.saving.register_keras_serializable("tests")
class Adding(keras.Model):
    """Sums the rows it is trained on, each times its sample weight."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = keras.metrics.Sum("seen", dtype="float64")

    def call(self, inputs: Any) -> Any:
        return inputs

    def train_step(self, data: Any) -> dict[str, Any]:
        x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.seen.update_state(x, sample_weight=sample_weight)
        return {"seen": self.seen.result()}


class Steps(keras.callbacks.Callback):
    """Records the step numbers that callbacks get."""

    def __init__(self) -> None:
        super().__init__()
        self.began: list[int] = []
        self.ended: list[int] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.began.append(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.ended.append(batch)


class Outcome(NamedTuple):
    seen: list[int]  # of each epoch
    began: list[int]
    ended: list[int]
    ran_out: bool


def rows(first: int = 0, count: int = ROWS) -> np.ndarray:
    return 2.0 ** np.arange(first, first + count)[:, None]


def batches(size: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(rows()).batch(size)


def of_unknown_length(size: int) -> tf.data.Dataset:
    return batches(size).filter(lambda batch: True)


def generated(size: int) -> Iterator[tuple[np.ndarray]]:
    yield from ((batch,) for batch in np.split(rows(), ROWS // size))


def fitted(
    strategy: tf.distribute.Strategy | None,
    x: Any,
    *,
    steps_per_execution: int = 1,
    **arguments: Any,
) -> Outcome:
    """Trains under `strategy`, or with stock Keras if it is None."""
    with (strategy or tf.distribute.get_strategy()).scope():
        model = Adding()
        model.compile("sgd", steps_per_execution=steps_per_execution)
    steps = Steps()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(x, verbose=0, shuffle=False, callbacks=[steps], **arguments).history
    ran_out = any("ran out of data" in str(warning.message) for warning in caught)
    return Outcome([int(total) for total in history["seen"]], steps.began, steps.ended, ran_out)


def sums(*epochs: list[int], size: int) -> list[int]:
    """Returns the sums of epochs of these batches."""
    return [int(sum(rows(size * batch, size).sum() for batch in epoch)) for epoch in epochs]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: rows(), id="arrays"),
        pytest.param(lambda: batches(2), id="dataset"),
        pytest.param(lambda: generated(2), id="generator"),
        pytest.param(lambda: of_unknown_length(2), id="unknown length"),
    ],
)
def test_executions_of_four_steps_do_all_ten_steps(
    strategy: tf.distribute.Strategy, data: Callable[[], Any]
) -> None:
    x = data()
    size = {"batch_size": 2} if isinstance(x, np.ndarray) else {}
    outcome = fitted(strategy, x, steps_per_execution=4, **size)
    assert outcome.seen == [ALL]
    assert outcome.began[:3] == [0, 4, 8]


def test_a_last_execution_ends_with_the_last_step(strategy: tf.distribute.Strategy) -> None:
    outcome = fitted(strategy, batches(2), steps_per_execution=4, epochs=2)
    assert outcome == Outcome([ALL, ALL], [0, 4, 8] * 2, [3, 7, 9] * 2, False)


@pytest.mark.parametrize(
    ("data", "arguments", "expected"),
    [
        pytest.param(
            lambda: batches(3),
            {"epochs": 2},
            Outcome([ALL, ALL], [*range(7)] * 2, [*range(7)] * 2, False),
            id="every batch, the last one smaller",
        ),
        pytest.param(
            lambda: batches(4),
            {"epochs": 2, "steps_per_epoch": 5},
            Outcome([ALL, ALL], [*range(5)] * 2, [*range(5)] * 2, False),
            id="as many steps as batches",
        ),
        pytest.param(
            lambda: batches(4).repeat(),
            {"epochs": 2, "steps_per_epoch": 3},
            Outcome(sums([0, 1, 2], [3, 4, 0], size=4), [0, 1, 2] * 2, [0, 1, 2] * 2, False),
            id="an endless dataset goes on where it was",
        ),
        pytest.param(
            lambda: batches(4),
            {"epochs": 2, "steps_per_epoch": 3},
            Outcome(sums([0, 1, 2], [3, 4], size=4), [0, 1, 2, 0, 1], [0, 1, 2, 0, 1], True),
            id="too few batches for the last epoch",
        ),
        pytest.param(
            lambda: batches(4),
            {"steps_per_epoch": 7},
            Outcome([ALL], [*range(5)], [*range(5)], True),
            id="too few batches for one epoch",
        ),
        pytest.param(
            lambda: batches(4),
            {"epochs": 2, "steps_per_epoch": 2},
            Outcome(sums([0, 1], [2, 3], size=4), [0, 1] * 2, [0, 1] * 2, False),
            id="fewer steps than batches",
        ),
        pytest.param(
            lambda: of_unknown_length(4),
            {"epochs": 2},
            Outcome([ALL, ALL], [*range(6)] * 2, [*range(5)] * 2, WARNS_OF_UNKNOWN_LENGTH),
            id="unknown length",
        ),
        pytest.param(
            lambda: of_unknown_length(4),
            {"epochs": 2, "steps_per_epoch": 2},
            Outcome(sums([0, 1], [2, 3], size=4), [0, 1] * 2, [0, 1] * 2, False),
            id="unknown length, fewer steps",
        ),
    ],
)
def test_epochs_have_the_same_batches_as_on_one_device(
    strategy: tf.distribute.Strategy,
    data: Callable[[], Any],
    arguments: dict[str, int],
    expected: Outcome,
) -> None:
    stock = fitted(None, data(), **arguments)
    assert (stock.seen, stock.ended, stock.ran_out) == (
        expected.seen,
        expected.ended,
        expected.ran_out,
    )
    found = fitted(strategy, data(), **arguments)
    assert (found.seen, found.ended, found.ran_out) == (
        expected.seen,
        expected.ended,
        expected.ran_out,
    )


@pytest.mark.parametrize("steps_per_execution", [1, 4])
@pytest.mark.parametrize("epochs", [1, 2])
def test_no_optimizer_step_is_taken_without_a_batch(
    strategy: tf.distribute.Strategy, epochs: int, steps_per_execution: int
) -> None:
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    pairs = tf.data.Dataset.from_tensor_slices((np.ones([ROWS, 1]), np.ones([ROWS, 1])))
    model.fit(pairs.batch(2).filter(lambda x, y: True), epochs=epochs, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == epochs * ROWS // 2


def pipeline(strategy: tf.distribute.Strategy, size: int) -> Any:
    labels = np.arange(ROWS) % 2
    return tfscale.data.input_pipeline(
        (rows(), labels), strategy, global_batch_size=size, shuffle=False
    )


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_a_pipeline_is_read_once_per_epoch(
    strategy: tf.distribute.Strategy, steps_per_execution: int
) -> None:
    outcome = fitted(
        strategy, pipeline(strategy, 6), epochs=2, steps_per_execution=steps_per_execution
    )
    assert (outcome.seen, outcome.ran_out) == ([ALL, ALL], False)


def test_steps_per_epoch_divide_a_pipeline_into_other_epochs(
    strategy: tf.distribute.Strategy,
) -> None:
    outcome = fitted(strategy, pipeline(strategy, 6), epochs=2, steps_per_epoch=2)
    assert outcome.seen == [2**12 - 1, ALL - (2**12 - 1)]


def test_class_weights_weigh_the_rows_of_a_pipeline(strategy: tf.distribute.Strategy) -> None:
    outcome = fitted(strategy, pipeline(strategy, 6), class_weight={0: 1.0, 1: 3.0})
    assert outcome.seen == [sum(2**i * (3 if i % 2 else 1) for i in range(ROWS))]


def test_class_weights_weigh_the_rows_of_arrays(strategy: tf.distribute.Strategy) -> None:
    outcome = fitted(
        strategy, rows(), y=np.arange(ROWS) % 2, batch_size=7, class_weight={0: 1.0, 1: 3.0}
    )
    assert outcome.seen == [sum(2**i * (3 if i % 2 else 1) for i in range(ROWS))]


def test_a_pipeline_of_another_strategy_is_refused(strategy: tf.distribute.Strategy) -> None:
    other = strategies.mirrored_strategy(2)
    with pytest.raises(ValueError, match=r"Received: .*Build both with one strategy"):
        fitted(strategy, pipeline(other, 6))


@pytest.mark.parametrize("name", ["y", "sample_weight"])
def test_targets_and_weights_passed_with_a_pipeline_are_refused(
    strategy: tf.distribute.Strategy, name: str
) -> None:
    arguments: dict[str, Any] = {name: np.ones([ROWS])}
    with pytest.raises(ValueError, match=rf"`{name}` must"):
        fitted(strategy, pipeline(strategy, 6), **arguments)


def test_rows_of_an_embedding_are_gathered_from_a_smaller_last_batch_too(
    strategy: tf.distribute.Strategy,
) -> None:
    weights = []
    for each in (strategy, tf.distribute.get_strategy()):
        keras.utils.set_random_seed(2)
        with each.scope():
            layers = [keras.layers.Embedding(9, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
            model = keras.Sequential([keras.Input((4,), dtype="int32"), *layers])
            model.compile("sgd", "mse", steps_per_execution=3 if each is strategy else 1)
        words = np.arange(4 * ROWS).reshape([ROWS, 4]) % 9
        model.fit(words, rows() / 2**ROWS, batch_size=6, epochs=2, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for found, expected in zip(*weights, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
