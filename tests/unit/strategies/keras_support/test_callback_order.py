"""The order of callbacks: the user's, then those of the strategy, then those that save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from strategies.keras_support.asynchronous.reports import StalenessReport
from strategies.keras_support.callback_order import in_order
from strategies.keras_support.input.current_fit import current_fit, fit_awaits_input
from strategies.keras_support.workers.collective_calls import StopTogether
from tests.callback_orders import OF_USER, callbacks_called

pytestmark = pytest.mark.own_process


class Last(keras.callbacks.Callback):
    comes_last = True


@pytest.fixture(scope="module", autouse=True)
def two_replicas() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(num_replicas=2)  # first of all: it makes the devices


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_checkpoint_is_called_after_all_others(
    replicas: int, two_replicas: tf.distribute.Strategy, tmp_path: Path
) -> None:
    strategy = two_replicas if replicas == 2 else strategies.one_device_strategy()
    recorder = callbacks_called(strategy, tmp_path)
    assert recorder.called == [*OF_USER, "Checkpoint"]
    assert recorder.shown == recorder.called


def test_callbacks_of_one_group_keep_their_order() -> None:
    first, second = Last(), Last()
    user, other = keras.callbacks.History(), keras.callbacks.Callback()
    report, stop = StalenessReport(), StopTogether()
    mixed = [first, user, stop, second, other, report]
    assert in_order(mixed) == [report, user, other, stop, first, second]
    assert in_order(in_order(mixed)) == in_order(mixed)


def test_a_callback_added_to_a_list_that_was_made_is_put_in_order_when_training_begins() -> None:
    with strategies.one_device_strategy().scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    last, later = Last(), keras.callbacks.Callback()
    made = keras.callbacks.CallbackList([last], add_history=True, model=model)
    made.callbacks.append(later)
    later.set_model(model)
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=made)
    assert made.callbacks.index(later) < made.callbacks.index(last)


def test_other_strategies_keep_the_list_as_it_is() -> None:
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    given = [Last(), keras.callbacks.Callback()]
    made = keras.callbacks.CallbackList(given, model=model)
    assert made.callbacks == given


def test_fit_is_recognised_by_where_it_is_wrapped() -> None:
    strategy = strategies.one_device_strategy()
    seen: list[tuple[str, bool, Any]] = []

    class Looks(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            running = current_fit(strategy)
            seen.append(("fit", fit_awaits_input(strategy), running.initial_epoch))
            seen.append(("steps", False, running.iterator.steps_in_epoch()))

        def on_test_begin(self, logs: Any = None) -> None:
            seen.append(("validation", fit_awaits_input(strategy), None))

    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x, y = np.ones((8, 2)), np.ones((8, 1))
    looks = [Looks()]
    # By position: x, y, batch_size, epochs, verbose, callbacks, validation_split.
    model.fit(x, y, 2, 3, 0, looks, 0.5, initial_epoch=2)
    assert seen == [("fit", False, 2), ("steps", False, 2), ("validation", False, None)]
    with pytest.raises(RuntimeError, match="no running `fit`"):
        current_fit(strategy)
    assert not fit_awaits_input(strategy)
