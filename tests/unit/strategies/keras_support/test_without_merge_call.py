"""TensorFlow's branch for GPUs under XLA: replicas that are never synchronized in Python.

There `extended._use_merge_call()` is False, every variable is written by each replica, and only
collectives connect the replicas. These tests force the branch on CPUs, as TensorFlow's tests do;
they do not test a GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies

pytestmark = pytest.mark.own_process

ROWS, BATCH, EPOCHS = 22, 8, 3

OPTIMIZERS = {
    "clipnorm": lambda: keras.optimizers.SGD(0.05, momentum=0.9, clipnorm=0.1),
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "overwritten_average": lambda: keras.optimizers.AdamW(
        0.01, use_ema=True, ema_overwrite_frequency=2
    ),
    "loss_scaling": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01, global_clipnorm=0.1), initial_scale=8.0
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _in_float64() -> None:
    keras.config.set_floatx("float64")


@pytest.fixture(scope="module")
def merging() -> tf.distribute.Strategy:
    strategy = strategies.mirrored_strategy(2)
    assert strategy.extended._use_merge_call()
    return strategy


@pytest.fixture(scope="module")
def not_merging() -> tf.distribute.Strategy:
    strategy = strategies.mirrored_strategy(2)
    strategy.extended._use_merge_call = lambda: False
    return strategy


def trained(strategy: tf.distribute.Strategy, optimizer: str) -> tuple[keras.Model, dict[str, Any]]:
    keras.utils.set_random_seed(3)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(ROWS, 6)), draw.normal(size=(ROWS, 1))
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.layers.Dense(5, activation="tanh"),
                keras.layers.BatchNormalization(synchronized=strategy.num_replicas_in_sync > 1),
                keras.layers.Dense(1),
            ]
        )
        model.compile(OPTIMIZERS[optimizer](), "mse", metrics=["mae"])
    history = model.fit(
        x, y, batch_size=BATCH, epochs=EPOCHS, shuffle=False, validation_data=(x, y), verbose=0
    )
    return model, history.history


@pytest.fixture(scope="module")
def without_merging(not_merging: tf.distribute.Strategy) -> Callable[[str], Any]:
    """Trains with an optimizer, once for all tests."""
    return functools.cache(lambda optimizer: trained(not_merging, optimizer))


@pytest.mark.parametrize(
    "optimizer",
    [
        # Loss scaling clips too.
        pytest.param(name, marks=pytest.mark.thorough if name == "clipnorm" else ())
        for name in OPTIMIZERS
    ],
)
def test_replicas_without_merge_calls_match_one_device(
    without_merging: Callable[[str], Any], optimizer: str
) -> None:
    model, history = without_merging(optimizer)
    expected, expected_history = trained(tf.distribute.get_strategy(), optimizer)
    for own, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(own, theirs, rtol=0, atol=1e-12)
    for name, values in expected_history.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-12)
    assert model.optimizer.iterations.numpy() == expected.optimizer.iterations.numpy()


def test_replicas_without_merge_calls_have_the_same_bits(
    not_merging: tf.distribute.Strategy, without_merging: Callable[[str], Any]
) -> None:
    model, _ = without_merging("loss_scaling")
    for variable in [*model.weights, *model.optimizer.variables]:
        first, second = not_merging.experimental_local_results(variable._value)
        np.testing.assert_array_equal(first.numpy(), second.numpy(), err_msg=variable.path)


def test_the_previous_mode_is_restored(
    merging: tf.distribute.Strategy,
    not_merging: tf.distribute.Strategy,
    without_merging: Callable[[str], Any],
) -> None:
    trained(merging, "clipnorm")
    without_merging("accumulation")
    assert merging.extended._use_merge_call()
    assert not not_merging.extended._use_merge_call()
