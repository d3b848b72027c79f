"""Finding a learning rate: its losses are those of NumPy, and nothing else changes."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from strategies.extension import RandomState
from tests.unit.tfscale.find.found_models import BATCH, X, Y, data_of, fit, left, network
from tfscale.find.rate_curve import growing_rates

pytestmark = pytest.mark.own_process


@pytest.fixture(scope="module")
def two_replicas() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(num_replicas=2)


def trained(
    strategy: Any, optimizer: str, data: str, *, built: bool, before: int, finds: bool
) -> Any:
    model = network(strategy, optimizer, is_built=built)
    rows = data_of(data, strategy)
    if before:
        fit(model, rows, before)
    history = model.history if before else None
    if finds:
        size = BATCH if isinstance(rows, tuple) else None
        tfscale.find_learning_rate(model, rows, batch_size=size, lowest=1e-4, steps=25)
        assert getattr(model, "history", None) is history
        assert model.steps_per_execution == 2
    return fit(model, rows, 2), left(model)


def check_nothing_changed(
    strategy: Any, optimizer: str, data: str, built: bool, before: int
) -> None:
    alone = trained(strategy, optimizer, data, built=built, before=before, finds=False)
    after = trained(strategy, optimizer, data, built=built, before=before, finds=True)
    assert after == alone


def test_training_on_two_replicas_goes_on_as_without_it(two_replicas: Any) -> None:
    check_nothing_changed(two_replicas, "schedule", "dataset", built=True, before=1)


@pytest.mark.thorough
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("is_stock", [True, False], ids=["stock", "two replicas"])
@pytest.mark.parametrize(
    ("optimizer", "data", "built"),
    [
        pytest.param("plain", "arrays", True, id="arrays, which fit shuffles"),
        pytest.param("plain", "arrays", False, id="a model that is not built"),
        pytest.param("plain", "dataset", True, id="a dataset that shuffles"),
        pytest.param("plain", "py_dataset", True, id="a PyDataset that shuffles"),
        pytest.param("plain", "pipeline", True, id="a pipeline"),
        pytest.param("schedule", "arrays", True, id="a schedule"),
        pytest.param("accumulating", "arrays", True, id="accumulated gradients"),
        pytest.param("averaging", "arrays", True, id="averages of weights"),
        pytest.param("scaled", "arrays", True, id="loss scaling"),
    ],
)
def test_training_goes_on_as_without_it(
    two_replicas: Any, optimizer: str, data: str, built: bool, is_stock: bool, before: int
) -> None:
    if data == "pipeline" and is_stock:
        return  # made for a strategy
    check_nothing_changed(None if is_stock else two_replicas, optimizer, data, built, before)


def test_losses_are_those_of_gradient_descent_at_the_growing_rates(two_replicas: Any) -> None:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        with two_replicas.scope():
            model = keras.Sequential(
                [keras.Input((4,)), keras.layers.Dense(1, kernel_initializer="zeros")]
            )
            model.compile(keras.optimizers.SGD(0.5), "mse")
        found = tfscale.find_learning_rate(
            model, (X, Y), batch_size=len(X), lowest=1e-3, highest=1.0, steps=30
        )
    finally:
        keras.config.set_dtype_policy(policy)
    inputs = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    weights, expected = np.zeros((5, 1)), []
    for rate in np.geomspace(1e-3, 1.0, 30)[: len(found.rates)]:
        errors = inputs @ weights - Y
        expected.append(np.mean(errors**2))
        weights -= np.float32(rate) * 2 * inputs.T @ errors / len(X)
    np.testing.assert_allclose(found.losses, expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-3, 1.0, 30)[: len(found.rates)])
    assert found.suggestion == found.minimum / 3
    assert float(model.optimizer.learning_rate.numpy()) == 0.5


def test_the_random_state_is_put_back() -> None:
    keras.utils.set_random_seed(1)
    keras.random.uniform([])
    before = RandomState()
    first = drawn()
    assert [each != again for each, again in zip(first, drawn(), strict=True)] == [True] * 4
    before.restore()
    assert drawn() == first


def drawn() -> list[Any]:
    shuffled = [int(each) for each in tf.data.Dataset.range(20).shuffle(20)]
    return [random.random(), np.random.normal(), shuffled, float(keras.random.uniform([]))]


def test_a_schedule_is_found_its_peak_with_data_of_a_function() -> None:
    model = uncompiled()
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 100)
    model.compile(keras.optimizers.SGD(schedule), "mse")
    found = tfscale.find_learning_rate(model, lambda: (X, Y), batch_size=60, lowest=1e-4, steps=25)
    assert found.is_for_peak
    assert "for the peak of the schedule" in str(found)
    assert model.optimizer.get_config()["learning_rate"]["config"] == schedule.get_config()


def uncompiled() -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def compiled() -> Any:
    model = uncompiled()
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("make", "data", "arguments", "message"),
    [
        (uncompiled, (X, Y), {}, "`model` must be compiled with an optimizer"),
        (lambda: "model", (X, Y), {}, "`model` must be a keras.Model. Received: model of type str"),
        (compiled, (X[:0], Y[:0]), {}, "`data` must have rows"),
        (compiled, (X, Y[:9]), {}, r"`data` must have rows.* Received: \[9, 60\] rows"),
        (compiled, lambda: tf.data.Dataset.from_tensors((X, Y)).take(0), {}, "at least one batch"),
        (compiled, iter([(X, Y)]), {}, "`data` must be arrays .* An iterator"),
        (compiled, (X, Y), {"lowest": 0}, "`lowest` must be a number above 0. Received: lowest=0"),
        (compiled, (X, Y), {"lowest": 2.0, "highest": 1.0}, "`highest` must be .* above lowest=2"),
        (compiled, (X, Y), {"steps": 19}, "`steps` must be .* Received: steps=19"),
        (compiled, (X, Y), {"batch_size": 0}, "`batch_size` must be .* Received: batch_size=0"),
        (
            compiled,
            lambda: tf.data.Dataset.from_tensors((X, Y)),
            {"batch_size": 8},
            "`batch_size` must be left out for data that come in batches",
        ),
        (compiled, (X, Y), {"lowest": 1e3, "highest": 1e4}, "`lowest` must be a rate at which"),
    ],
)
def test_what_cannot_be_tested_is_refused(
    make: Any, data: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tfscale.find_learning_rate(make(), data, **arguments)


def test_rates_grow_by_one_factor() -> None:
    np.testing.assert_allclose(growing_rates(1e-6, 10.0, 100), np.geomspace(1e-6, 10, 100))
