"""What needs a tfscale strategy refuses a model outside of every scope, and names the cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.programs import completed, forked
from tfscale.callbacks import Checkpoint, Stability, Watchdog
from tfscale.data import Pipeline, input_pipeline

pytestmark = pytest.mark.own_process

X, Y = np.ones([8, 3], np.float32), np.ones([8, 1], np.float32)
DEADLINE_SECONDS = 200


@pytest.fixture(scope="module")
def two() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


@pytest.fixture(scope="module")
def pipeline(two: tf.distribute.Strategy) -> Pipeline:
    return input_pipeline((X, Y), two, global_batch_size=4)


def made() -> Any:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)], name="any")
    model.compile("sgd", "mse")
    return model


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(ValueError, match="`model` must be built and compiled") as raised:
        call()
    return str(raised.value)


def text(user: str, received: str = "no strategy") -> str:
    return (
        f"`model` must be built and compiled under a tfscale strategy to use {user}. Received: "
        f"model 'any', built under {received}. Build and compile it under `with "
        "strategy.scope():`."
    )


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
def test_a_pipeline_is_refused(pipeline: Pipeline, call: str) -> None:
    assert refusal(lambda: getattr(made(), call)(pipeline)) == text("a pipeline as `x`")


def test_a_pipeline_for_validation_is_refused_before_the_first_epoch(pipeline: Pipeline) -> None:
    model = made()
    before = model.get_weights()
    said = refusal(lambda: model.fit(X, Y, validation_data=pipeline, verbose=0))
    assert said == text("a pipeline as `validation_data`")
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_a_pipeline_is_refused_under_a_strategy_of_tensorflow(pipeline: Pipeline) -> None:
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = made()
    received = "a MirroredStrategy (2 replicas) that tfscale did not build"
    assert refusal(lambda: model.fit(pipeline)) == text("a pipeline as `x`", received)


def test_a_pipeline_of_another_strategy_is_refused_without_addresses(pipeline: Pipeline) -> None:
    with strategies.one_device_strategy().scope():
        model = made()
    message = (
        r"Received: a pipeline for a MirroredStrategy \(2 replicas\) and a model under another "
        r"strategy, a OneDeviceStrategy \(1 replica\)\. Build both"
    )
    with pytest.raises(ValueError, match=message):
        model.fit(pipeline)


@pytest.mark.parametrize("name", ["Checkpoint", "Stability", "Watchdog"])
def test_a_callback_refuses_the_model(
    two: tf.distribute.Strategy, tmp_path: Path, name: str
) -> None:
    callback = {
        "Checkpoint": lambda: Checkpoint(tmp_path),
        "Stability": Stability,
        "Watchdog": Watchdog,
    }[name]()
    model = made()
    assert refusal(lambda: model.fit(X, Y, callbacks=[callback], verbose=0)) == text(name)


def test_a_program_without_any_strategy_learns_how_to_build_one() -> None:
    code = (
        "import keras, numpy as np, tfscale\n"
        "model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])\n"
        "model.compile('sgd', 'mse')\n"
        "x = np.ones([4, 3])\n"
        "model.fit(x, x[:, :1], callbacks=[tfscale.callbacks.Watchdog()], verbose=0)\n"
    )
    ended = completed(*forked("-c", code), timeout=DEADLINE_SECONDS)
    assert "under `with strategies.one_device_strategy().scope():`." in ended.stderr
