"""Models of Keras 2 are refused in the scopes of our strategies, and only there."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

import strategies

pytestmark = pytest.mark.own_process

REFUSED = r"must be of Keras 3 \(`import keras`\) under this strategy"


@pytest.fixture(scope="module")
def built() -> dict[str, tf.distribute.Strategy]:
    """Makes two replicas first: logical CPUs are made before TensorFlow starts."""
    mirrored = strategies.mirrored_strategy(num_replicas=2)
    return {"mirrored": mirrored, "one_device": strategies.one_device_strategy()}


@pytest.fixture(params=["one_device", "mirrored"])
def strategy(request: pytest.FixtureRequest, built: dict[str, tf.distribute.Strategy]) -> Any:
    return built[request.param]


@pytest.fixture
def make_variable(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Code of a module with a name of Keras 2, which is all that it is recognised by."""
    package, module = types.ModuleType("tf_keras"), types.ModuleType("tf_keras.src.layers")
    exec("def make(tf):\n    return tf.Variable(1.0, name='kernel')", module.__dict__)
    monkeypatch.setitem(sys.modules, "tf_keras", package)
    return lambda: module.make(tf)


def test_a_variable_of_keras_2_is_refused_by_name(
    strategy: Any, make_variable: Callable[[], Any]
) -> None:
    with strategy.scope(), pytest.raises(ValueError, match=REFUSED) as error:
        make_variable()
    assert "name='kernel', of tf_keras (Keras 2)" in str(error.value)


@pytest.mark.usefixtures("built")
def test_stock_strategies_and_no_scope_accept_keras_2(make_variable: Callable[[], Any]) -> None:
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        assert make_variable().numpy() == 1.0
    assert make_variable().numpy() == 1.0


def test_keras_3_works_while_keras_2_is_imported(
    strategy: Any, make_variable: Callable[[], Any]
) -> None:
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        own = tf.Variable(2.0)
    assert len(model.weights) == 2
    assert own.numpy() == 2.0


@pytest.mark.parametrize("part", ["model", "optimizer", "metric"])
def test_each_part_of_the_real_keras_2_is_refused(strategy: Any, part: str) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    parts: dict[str, Callable[[], Any]] = {
        "model": lambda: tf_keras.Sequential([tf_keras.Input((2,)), tf_keras.layers.Dense(1)]),
        "optimizer": lambda: tf_keras.optimizers.Adam(0.1),
        "metric": tf_keras.metrics.Mean,
    }
    with strategy.scope(), pytest.raises(ValueError, match=REFUSED):
        parts[part]()
