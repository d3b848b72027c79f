"""A replica without examples computes on a real row, which has no weight.

Four examples in batches of three: the second batch has one row for three replicas. A lookup without
a bucket for other values refuses an invented row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from strategies.keras_support.context.step_context import current_step

pytestmark = pytest.mark.own_process

TARGETS = np.array([[1.0], [2.0], [4.0], [8.0]])


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(3)


@pytest.fixture(autouse=True)
def _in_float64() -> None:
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


class Looks(keras.Model):
    """Looks up the first entry of a row in a vocabulary of two."""

    def __init__(self, lookup: Any, vocabulary: list[Any]) -> None:
        super().__init__()
        self.lookup = lookup(vocabulary=vocabulary, num_oov_indices=0, output_mode="one_hot")
        self.end = keras.layers.Dense(1, kernel_initializer="ones")
        self.end.build((None, 2))

    def call(self, x: Any) -> Any:
        return self.end(tf.cast(self.lookup(x), "float64"))


KINDS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "words": (
        lambda: tf.constant([["a"], ["b"], ["b"], ["b"]]),
        lambda: Looks(keras.layers.StringLookup, ["a", "b"]),
    ),
    "numbers": (
        lambda: np.array([[7], [9], [9], [9]]),
        lambda: Looks(keras.layers.IntegerLookup, [7, 9]),
    ),
}


def made(strategy: tf.distribute.Strategy, build: Callable[[], Any]) -> Any:
    with strategy.scope():
        model = build()
        model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


def numbers_of(model: Any, *found: Any) -> list[Any]:
    return [np.asarray(part, np.float64) for part in (*model.get_weights(), *found)]


def assert_alike(found: list[Any], expected: list[Any]) -> None:
    for number, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(number, wanted, rtol=1e-10)


@pytest.mark.parametrize("kind", ["words", pytest.param("numbers", marks=pytest.mark.thorough)])
def test_a_dataset_whose_last_batch_has_one_row(
    strategy: tf.distribute.Strategy, kind: str
) -> None:
    def trained(strategy: tf.distribute.Strategy) -> list[Any]:
        inputs, build = KINDS[kind]
        x = inputs()
        data = tf.data.Dataset.from_tensor_slices((x, TARGETS)).batch(3)
        model = made(strategy, build)
        history = model.fit(data, epochs=2, verbose=0).history
        return numbers_of(
            model,
            *history.values(),
            model.evaluate(data, verbose=0),
            model.predict(data, verbose=0),
        )

    assert_alike(trained(strategy), trained(tf.distribute.get_strategy()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_one_row_in_memory(strategy: tf.distribute.Strategy, kind: str) -> None:
    def trained(strategy: tf.distribute.Strategy) -> list[Any]:
        inputs, build = KINDS[kind]
        x = inputs()
        model = made(strategy, build)
        return numbers_of(
            model,
            model.train_on_batch(x[:1], TARGETS[:1]),
            model.test_on_batch(x[1:3], TARGETS[1:3]),
            model.predict_on_batch(x[:1]),
        )

    assert_alike(trained(strategy), trained(tf.distribute.get_strategy()))


@pytest.mark.parametrize(
    ("from_stream", "kind"),
    [
        (True, "words"),
        (False, "numbers"),
        pytest.param(True, "numbers", marks=pytest.mark.thorough),
        pytest.param(False, "words", marks=pytest.mark.thorough),
    ],
)
def test_a_pipeline_whose_last_batch_has_one_row(
    strategy: tf.distribute.Strategy, kind: str, from_stream: bool
) -> None:
    inputs, build = KINDS[kind]
    x = inputs()
    examples = tf.data.Dataset.from_tensor_slices((x, TARGETS))
    source = examples if from_stream else (x if kind == "numbers" else x.numpy(), TARGETS)
    pipeline = tfscale.data.input_pipeline(source, strategy, 3, shuffle=False)
    ours, stock = made(strategy, build), made(tf.distribute.get_strategy(), build)
    weights = {label: 1.0 + label for label in range(9)}
    history = ours.fit(pipeline, epochs=2, class_weight=weights, verbose=0).history
    expected = stock.fit(examples.batch(3), epochs=2, class_weight=weights, verbose=0).history
    assert_alike(
        numbers_of(ours, *history.values(), ours.predict(pipeline, verbose=0)),
        numbers_of(stock, *expected.values(), stock.predict(examples.batch(3), verbose=0)),
    )
    own = [len(rows) for rows, _ in pipeline.local(0).take(6)]
    assert own == [1, 1, 1, 0, 0, 1]  # as in a custom training loop


class Counts(keras.Model):
    """Sums what replicas know of their batch, without a collective."""

    def __init__(self) -> None:
        super().__init__()
        self.own = keras.metrics.Sum("own", dtype="float64")
        self.all = keras.metrics.Sum("all", dtype="float64")

    def call(self, x: Any) -> Any:
        return x

    def test_step(self, data: Any) -> dict[str, Any]:
        step = current_step()
        assert step is not None
        assert step.all_examples is not None
        self.own.update_state(step.fraction())
        self.all.update_state(step.all_examples)
        return {"own": self.own.result(), "all": self.all.result()}


@pytest.mark.parametrize("rows", [7, 6])
def test_replicas_know_the_rows_of_the_whole_batch(
    strategy: tf.distribute.Strategy, rows: int
) -> None:
    with strategy.scope():
        model = Counts()
        model.compile()
    drop = rows == 6
    data = tf.data.Dataset.from_tensor_slices(np.ones((rows, 1))).batch(rows, drop_remainder=drop)
    found = model.evaluate(data, return_dict=True, verbose=0)
    assert found["own"] == pytest.approx(1.0, rel=1e-12)
    assert found["all"] == 3 * rows
