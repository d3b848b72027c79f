"""Every epoch has the same rows, in the same batches and order, as in stock Keras.

Row i is the number 2^i, so the sum of a batch shows which rows were in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from strategies.keras_support.input import replica_stream

pytestmark = pytest.mark.own_process

ROWS, BATCH, EPOCHS = 12, 5, 4


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


@pytest.fixture
def copying(strategy: tf.distribute.Strategy) -> Iterator[tf.distribute.Strategy]:
    """Streams as on GPUs: TensorFlow's, which copy replica batches to other devices."""
    all_on = vars(replica_stream)["all_on"]
    vars(replica_stream)["all_on"] = lambda kind, strategy: False
    yield strategy
    vars(replica_stream)["all_on"] = all_on


class Seen(keras.Model):
    """Sums the rows it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = keras.metrics.Sum("seen", dtype="float64")

    def call(self, inputs: Any) -> Any:
        return inputs

    def train_step(self, data: Any) -> dict[str, Any]:
        x = keras.utils.unpack_x_y_sample_weight(data)[0]
        self.seen.update_state(tf.reduce_sum(x))
        return {"seen": self.seen.result()}


class Batches(keras.callbacks.Callback):
    """Records the sum of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: list[list[int]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.sums.append([])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.sums[-1].append(int((logs or {})["seen"]) - sum(self.sums[-1]))


def rows() -> np.ndarray:
    return 2.0 ** np.arange(ROWS)[:, None]


def dataset() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(rows())


def _drop_some(row: tf.Tensor) -> tf.Tensor:
    return row * tf.round(tf.random.uniform([], dtype=row.dtype))


FEEDS: dict[str, Callable[[], dict[str, Any]]] = {
    "shuffled arrays": lambda: {"x": rows(), "batch_size": BATCH},
    "shuffled batches of arrays": lambda: {"x": rows(), "batch_size": BATCH, "shuffle": "batch"},
    "a dataset that reshuffles": lambda: {"x": dataset().shuffle(ROWS, seed=3).batch(BATCH)},
    "a dataset of one order": lambda: {
        "x": dataset().shuffle(ROWS, seed=3, reshuffle_each_iteration=False).batch(BATCH)
    },
    "an endless one that reshuffles": lambda: {
        "x": dataset().shuffle(ROWS, seed=3).repeat().batch(BATCH),
        "steps_per_epoch": 2,
    },
    "a random choice in the dataset": lambda: {
        "x": dataset().shuffle(3).map(_drop_some).batch(BATCH)
    },
    "of unknown length, reshuffling": lambda: {
        "x": dataset().shuffle(ROWS, seed=3).filter(lambda row: True).batch(BATCH)
    },
}


def sums_of_batches(strategy: tf.distribute.Strategy, feed: str) -> list[list[int]]:
    keras.utils.set_random_seed(5)
    with strategy.scope():
        model = Seen()
        model.compile()
    batches = Batches()
    model.fit(**FEEDS[feed](), epochs=EPOCHS, callbacks=[batches], verbose=0)
    return batches.sums


@pytest.mark.parametrize("feed", FEEDS)
def test_all_epochs_have_the_order_of_one_device(
    strategy: tf.distribute.Strategy, feed: str
) -> None:
    expected = sums_of_batches(tf.distribute.get_strategy(), feed)
    assert sums_of_batches(strategy, feed) == expected
    assert sums_of_batches(strategies.one_device_strategy(), feed) == expected


@pytest.mark.parametrize("feed", ["shuffled arrays", "a dataset of one order"])
def test_streams_that_copy_to_devices_yield_every_row_once(
    copying: tf.distribute.Strategy, feed: str
) -> None:
    for epoch in sums_of_batches(copying, feed):
        assert len(epoch) == 3
        assert sum(epoch) == 2**ROWS - 1
