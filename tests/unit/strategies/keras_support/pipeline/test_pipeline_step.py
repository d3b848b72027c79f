"""Training as a pipeline against stock Keras on one device, which computes whole batches."""

from __future__ import annotations

import functools
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
    assert_equal,
    assert_like_one_device,
    found,
    on_one_device,
    on_strategy,
)
from tests.unit.strategies.keras_support.pipeline import pipeline_models as models
from tfscale.callbacks import Microbatches
from tfscale.parallel import Pipeline

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]


@pytest.fixture(autouse=True, scope="module")
def _eight_devices() -> None:
    strategies.mirrored_strategy(2, devices_per_replica=4)  # TensorFlow makes its CPUs once


def program(
    case: str, stages: int, microbatches: int, size: int = 16, epochs: int = 1, **more: Any
) -> Callable[[Any], Found]:
    """Returns a program that trains as a pipeline under one of our strategies."""
    build, data, names = models.CASES[case]
    compiling, kept = more.pop("compiling", {}), more.pop("kept", [])

    def trained(strategy: tf.distribute.Strategy) -> Found:
        with strategy.scope():
            model = build()
            for name, value in compiling.items():
                setattr(model, name, value)
        if tf.distribute.get_strategy() is not strategy:
            Pipeline(model, names[stages * more.get("virtual_stages", 1)], microbatches, **more)
        fitted = model.fit(
            **data,
            batch_size=size,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            validation_data=(data["x"], data["y"]),
        )
        kept.append(model)
        predicted = keras.tree.flatten(model.predict(data["x"], verbose=0))
        slots = [np.sum(v.numpy()) for v in model.optimizer.variables]
        return found(model, fitted, slots=slots, predicted=predicted[0])

    return trained


@pytest.fixture(scope="module")
def trained_skips() -> tuple[Any, Found]:
    """A model that was trained as a pipeline, and its results."""
    strategy = strategies.mirrored_strategy(2, devices_per_replica=2)
    kept: list[Any] = []
    shown = on_strategy(program("skips", 2, 2, size=20, schedule="1f1b", kept=kept), strategy)
    return kept[0], shown


def test_a_pipeline_trains_like_one_device(trained_skips: tuple[Any, Found]) -> None:
    expected = on_one_device(program("skips", 2, 2, size=20))
    assert_equal(trained_skips[1], expected)


@functools.cache
def of_one_device(case: str) -> Found:
    """Thirty steps of stock Keras on one device."""
    return thirty_steps(case, tf.distribute.get_strategy(), lambda model: None)


def thirty_steps(case: str, strategy: Any, prepare: Callable[[Any], Any]) -> Found:
    build, data, _ = models.CASES[case]
    keras.utils.clear_session()
    keras.utils.set_random_seed(11)
    with strategy.scope():
        model = build()
    prepare(model)
    return found(model, model.fit(**data, batch_size=16, epochs=10, shuffle=False, verbose=0))


SWEEP = [
    (stages, microbatches, schedule)
    for stages in (2, 4)
    for microbatches in (1, 2, 4, 8)
    for schedule in ("gpipe", "1f1b", "interleaved")
    if schedule != "interleaved" or (stages == 2 and microbatches % 2 == 0)
]


@pytest.mark.thorough
@pytest.mark.parametrize("case", models.CASES)
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(("stages", "microbatches", "schedule"), SWEEP)
def test_thirty_steps_of_every_schedule(
    case: str, replicas: int, stages: int, microbatches: int, schedule: str
) -> None:
    virtual = 2 if schedule == "interleaved" else 1
    names = models.CASES[case][2][stages * virtual]
    check_thirty_steps(case, replicas, stages, names, microbatches, schedule, virtual)


@pytest.mark.thorough
@pytest.mark.parametrize("case", [case for case in models.CASES if case != "convolution"])
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("microbatches", [4, 8])
def test_thirty_steps_of_four_interleaved_stages(
    case: str, replicas: int, microbatches: int
) -> None:
    """In eight pieces, of which the convolutions have too few; cut by measured costs."""
    check_thirty_steps(case, replicas, 4, 4, microbatches, "interleaved", 2)


def check_thirty_steps(
    case: str,
    replicas: int,
    stages: int,
    cut: Any,
    microbatches: int,
    schedule: str,
    virtual: int,
) -> None:
    shown = thirty_steps(
        case,
        strategies.mirrored_strategy(replicas, devices_per_replica=stages),
        lambda model: Pipeline(model, cut, microbatches, schedule=schedule, virtual_stages=virtual),
    )
    for name, expected in of_one_device(case).items():
        # The gradient of an attention's key bias is 0 but for rounding, which Adam makes large.
        np.testing.assert_allclose(shown[name], expected, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.thorough
@pytest.mark.parametrize("size", [3, 7, 40])
def test_batches_of_any_size(size: int) -> None:
    strategy = strategies.mirrored_strategy(2, devices_per_replica=2)
    assert_like_one_device(program("skips", 2, 4, size=size, schedule="1f1b"), strategy)


@pytest.mark.thorough
def test_steps_that_run_eagerly() -> None:
    strategy = strategies.mirrored_strategy(2, devices_per_replica=2)
    trained = program("skips", 2, 4, schedule="1f1b", compiling={"run_eagerly": True})
    assert_like_one_device(trained, strategy)


@pytest.mark.thorough
@pytest.mark.parametrize("replicas", [1, 2])
def test_batch_normalization_counts_microbatches(replicas: int) -> None:
    """As the callback Microbatches, with the same microbatches and replicas, does."""
    shown = []
    for is_pipeline in (False, True):
        keras.utils.clear_session()
        keras.utils.set_random_seed(11)
        devices = 2 if is_pipeline else 1
        with strategies.mirrored_strategy(replicas, devices_per_replica=devices).scope():
            model = models.convolution()
        if is_pipeline:
            Pipeline(model, ["conv_b"], 4, schedule="1f1b")
        fitted = model.fit(
            models.IMAGES,
            models.CLASSES,
            batch_size=16,
            epochs=10,
            shuffle=False,
            verbose=0,
            callbacks=[] if is_pipeline else [Microbatches(4)],
        )
        shown.append(found(model, fitted))
    for name, expected in shown[0].items():
        np.testing.assert_allclose(shown[1][name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


def test_synchronized_statistics_of_one_replica_are_those_of_its_microbatches() -> None:
    norm = keras.layers.BatchNormalization(momentum=0.5, synchronized=True)
    with strategies.mirrored_strategy(1, devices_per_replica=2).scope():
        model = keras.Sequential([keras.Input([6]), norm, keras.layers.Dense(1, name="last")])
        model.compile("sgd", "mse")
    Pipeline(model, ["last"], 2)
    rows = models.FEATURES[:8]
    model.fit(rows, models.NUMBERS[:8], batch_size=8, shuffle=False, verbose=0)
    mean = (rows[:4].mean(0) / 2 + rows[4:].mean(0)) / 2
    np.testing.assert_allclose(norm.moving_mean.numpy(), mean, rtol=1e-12)


def places(variable: Any) -> list[str]:
    return [name[-5:] for name in devices_of(variable)]


def test_weights_and_slots_are_on_the_device_of_their_stage(
    trained_skips: tuple[Any, Found],
) -> None:
    model = trained_skips[0]
    second = {
        v.path
        for name in ("early", "third", "fourth", "late")
        for v in model.get_layer(name).weights
    }
    for variable in model.weights:
        expected = ["CPU:1", "CPU:3"] if variable.path in second else ["CPU:0", "CPU:2"]
        assert places(variable) == expected, variable.path
    optimizer = model.optimizer
    of_slots = [optimizer._momentums, optimizer._model_variables_moving_average]
    for slots in [*of_slots, optimizer._accumulated_gradients]:
        for slot, variable in zip(slots, optimizer._trainable_variables, strict=True):
            assert places(slot) == places(variable)


@pytest.mark.thorough
def test_a_loaded_model_continues_as_a_pipeline(tmp_path: Path) -> None:
    """A file is a plain one; a loaded model is plain until it is made a pipeline again."""
    strategy = strategies.mirrored_strategy(2, devices_per_replica=2)
    build, data, names = models.CASES["skips"]
    with strategy.scope():
        model = build()
    Pipeline(model, names[2], 2)
    model.fit(**data, batch_size=16, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    custom = {"AddsLoss": models.AddsLoss}
    with strategy.scope():
        loaded = keras.models.load_model(path, custom_objects=custom)
    Pipeline(loaded, names[2], 2)
    momentums = zip(loaded.optimizer._momentums, loaded.optimizer._trainable_variables, strict=True)
    assert all(places(slot) == places(variable) for slot, variable in momentums)
    for each in (model, loaded):
        each.fit(**data, batch_size=16, shuffle=False, verbose=0)
    for mine, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(other, mine, rtol=1e-12)


@pytest.mark.parametrize(("schedule", "most"), [("gpipe", [6, 6]), ("1f1b", [2, 1])])
def test_no_more_microbatches_are_in_memory_than_the_schedule_says(
    schedule: str, most: list[int]
) -> None:
    counters = [Counts(name="counts_a"), Counts(name="counts_b")]
    with strategies.mirrored_strategy(1, devices_per_replica=2).scope():
        inner = [each for c in counters for each in (keras.layers.Dense(2), c)]
        model = keras.Sequential([keras.Input([2]), *inner])
        model.compile("sgd", "mse")
    Pipeline(model, [model.layers[2].name], 6, schedule=schedule)
    model.fit(np.ones((12, 2)), np.ones((12, 2)), batch_size=12, verbose=0)
    assert [each.most for each in counters] == most


class Counts(keras.layers.Layer):
    """Counts the forward passes that wait for their backward pass."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.most = self._now = 0

    def call(self, x: Any) -> Any:
        @tf.custom_gradient
        def counted(x: tf.Tensor) -> Any:
            return self._moved(x, 1), lambda upstream: self._moved(upstream, -1)

        return counted(x)

    def _moved(self, x: tf.Tensor, by: int) -> tf.Tensor:
        def move(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            self._now += by
            self.most = max(self.most, self._now)
            return value

        return tf.ensure_shape(tf.numpy_function(move, [x], x.dtype, stateful=False), x.shape)


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_microbatches_of_1f1b() -> None:
    module = "tests.unit.strategies.keras_support.pipeline.pipeline_memory"

    def peak(schedule: str, count: int) -> int:
        return int(run_program("-m", module, schedule, str(count), timeout=300).splitlines()[0])

    assert peak("1f1b", 32) <= 1.1 * peak("1f1b", 8)
    assert peak("gpipe", 32) >= 2 * peak("gpipe", 8)
