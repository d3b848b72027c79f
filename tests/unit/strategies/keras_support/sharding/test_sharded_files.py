"""Files and checkpoints of sharded state are those of whole variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from tests.unit.strategies.keras_support.beside_one_device import X, Y

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

DEVICES = ["CPU:0", "CPU:1", "CPU:2"]


@pytest.fixture(scope="module", autouse=True)
def three_devices() -> None:
    strategies.mirrored_strategy(3)


def sharded(replicas: int, stage: int) -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(devices=DEVICES[:replicas], shard=stage)


def compiled(strategy: tf.distribute.Strategy) -> Any:
    keras.utils.set_random_seed(5)
    with strategy.scope():
        layers = [keras.Input((3,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.Adam(0.02, use_ema=True), "mse")
    return model


def fit(model: Any, epochs: int, *callbacks: Any) -> Any:
    model.fit(
        X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks)
    )
    return model


def state(model: Any) -> list[Any]:
    return [variable.numpy() for variable in [*model.variables, *model.optimizer.variables]]


def test_a_file_loads_in_plain_keras_as_it_was(tmp_path: Path) -> None:
    model = fit(compiled(sharded(2, 3)), 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.variables[0]._value, tf.Variable)
    for own, expected in zip(state(loaded), state(model), strict=True):
        np.testing.assert_array_equal(own, expected)
    expected = model.predict(X, batch_size=8, verbose=0)
    np.testing.assert_allclose(loaded.predict(X, verbose=0), expected, rtol=1e-12)


def test_weights_load_into_a_sharded_model(tmp_path: Path) -> None:
    model = compiled(sharded(2, 0))
    model.save_weights(tmp_path / "model.weights.h5")
    other = compiled(sharded(3, 3))
    other.set_weights([np.zeros_like(weight) for weight in other.get_weights()])
    other.load_weights(tmp_path / "model.weights.h5")
    for own, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, expected)


def test_a_run_resumes_at_another_stage_on_other_replicas(tmp_path: Path) -> None:
    expected = state(fit(compiled(tf.distribute.get_strategy()), 4))

    def resumed(strategy: tf.distribute.Strategy, epochs: int) -> list[Any]:
        checkpoint = tfscale.callbacks.Checkpoint(tmp_path)
        found = state(fit(compiled(strategy), epochs, checkpoint))
        assert checkpoint.position.epoch == epochs
        assert (checkpoint.resumed_from is None) == (epochs == 1)
        return found

    resumed(sharded(2, 3), 1)
    resumed(sharded(3, 1), 2)
    resumed(strategies.one_device_strategy("CPU:0"), 3)
    found = resumed(sharded(3, 3), 4)
    assert len(found) == len(expected)
    for own, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, wanted, rtol=1e-9, atol=1e-12)
