"""Sharded state within pipelines, against stock Keras on one device."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from strategies.keras_support.placement.variable_devices import devices_of
from tests.programs import run_program
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    X,
    Y,
    assert_like_one_device,
    found,
    on_one_device,
    on_strategy,
)
from tests.unit.strategies.keras_support.pipeline import pipeline_models as models
from tfscale.parallel import Pipeline

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

OPTIMIZERS = keras.optimizers


@pytest.fixture(autouse=True, scope="module")
def _eight_devices() -> None:
    strategies.mirrored_strategy(2, devices_per_replica=4)  # TensorFlow makes its CPUs once


def sharded(stage: int, devices: int = 2) -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2, devices_per_replica=devices, shard=stage)


def clipped() -> Any:
    return OPTIMIZERS.Adam(0.02, global_clipnorm=0.3, use_ema=True, ema_overwrite_frequency=2)


def line(optimizer: Callable[[], Any]) -> Any:
    parts = [keras.layers.Dense(5, "tanh", name="a"), keras.layers.Dense(2, name="b")]
    model = keras.Sequential([keras.Input([3]), *parts])
    model.compile(optimizer(), "mse")
    return model


def fit(model: Any, epochs: int = 1) -> Any:
    return model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)


def is_plain(strategy: Any) -> bool:
    return strategy is tf.distribute.get_strategy()


def slots_of(model: Any) -> list[Any]:
    return [np.sum(v.numpy()) for v in model.optimizer.variables]


def test_parts_are_on_the_devices_of_their_stages_and_train_like_one_device() -> None:
    """A gradient is divided too: its parts are added up where their stage is."""

    def trained(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = line(clipped)
        if not is_plain(strategy):
            Pipeline(model, ["b"], 4, schedule="1f1b")
        fitted = fit(model)
        if not is_plain(strategy):
            of_slots = zip(model.optimizer._momentums, model.trainable_variables, strict=True)
            for slot, variable in of_slots:
                stage = int("/b/" in f"/{variable.path}")
                for each in (slot, variable):
                    places = [int(device[-1]) for device in devices_of(each)]
                    assert places == [stage, stage + 2], each.path
        return found(model, fitted, slots=slots_of(model))

    assert_like_one_device(trained, sharded(3))


@pytest.mark.thorough
@pytest.mark.parametrize("shard", [1, 3])
@pytest.mark.parametrize("optimizer", [clipped, lambda: OPTIMIZERS.Lamb(0.02)])
def test_a_model_that_was_trained_moves_with_its_parts(
    shard: int, optimizer: Callable[[], Any]
) -> None:
    """Parts of rows, and variables that belong to one replica, stay what they are."""

    def trained(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = line(optimizer)
        fit(model)
        if not is_plain(strategy):
            Pipeline(model, ["b"], 2, schedule="1f1b")
        return found(model, fit(model), slots=slots_of(model))

    assert_like_one_device(trained, sharded(shard))


@pytest.mark.thorough
def test_counters_of_an_optimizer_do_not_move() -> None:
    """Plain SGD has as many variables as a layer with kernel and bias."""
    with sharded(0).scope():
        layers = [keras.layers.Dense(2, name="a"), keras.layers.Activation("tanh", name="b")]
        model = keras.Sequential([keras.Input([3]), *reversed(layers)])
        model.compile("sgd", "mse")
    fit(model)
    Pipeline(model, ["a"])
    assert [name[-5:] for name in devices_of(model.optimizer.iterations)] == ["CPU:0", "CPU:2"]


@functools.cache
def of_one_device(case: str) -> Found:
    return on_one_device(thirty_steps(case))


def thirty_steps(
    case: str, prepare: Callable[[Any], Any] = lambda _: None
) -> Callable[[tf.distribute.Strategy], Found]:
    build, data, _ = models.CASES[case]

    def trained(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = build()
        prepare(model)
        fitted = model.fit(**data, batch_size=16, epochs=10, shuffle=False, verbose=0)
        return found(model, fitted, slots=slots_of(model))

    return trained


@pytest.mark.thorough
@pytest.mark.parametrize("case", models.CASES)
@pytest.mark.parametrize(
    ("shard", "stages", "microbatches", "schedule"),
    [
        (3, 2, 4, "gpipe"),
        (3, 2, 8, "1f1b"),
        (3, 4, 4, "1f1b"),
        (3, 2, 4, "interleaved"),
        (2, 2, 4, "1f1b"),
        (2, 4, 4, "gpipe"),
        (2, 2, 4, "interleaved"),
        (1, 2, 4, "1f1b"),
    ],
)
def test_thirty_steps_of_every_schedule(
    case: str, shard: int, stages: int, microbatches: int, schedule: str
) -> None:
    virtual = 2 if schedule == "interleaved" else 1
    names = models.CASES[case][2][stages * virtual]

    def prepare(model: Any) -> None:
        Pipeline(model, names, microbatches, schedule=schedule, virtual_stages=virtual)

    shown = on_strategy(thirty_steps(case, prepare), sharded(shard, stages))
    for name, expected in of_one_device(case).items():
        # The gradient of an attention's key bias is 0 but for rounding, which Adam makes large.
        np.testing.assert_allclose(shown[name], expected, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.thorough
@pytest.mark.parametrize("shards", [(0, 0), (3, 3), (3, 1)])
def test_a_run_resumes_in_the_middle_of_an_epoch(shards: tuple[int, int], tmp_path: Path) -> None:
    """In another process; the whole run is one without an interruption."""

    def printed(folder: str, steps: int, shard: int) -> list[Any]:
        module = "tests.unit.strategies.keras_support.pipeline.pipeline_resumed"
        given = (str(tmp_path / folder), str(steps), str(shard))
        lines = run_program("-m", module, *given, timeout=300).splitlines()
        return [json.loads(line) for line in lines if line.startswith("[")]

    before, after = shards
    printed("run", 4, before)
    found = printed("run", 0, after)
    expected = printed("whole", 0, 0)
    assert len(found) == len(expected) > 20
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-14)
