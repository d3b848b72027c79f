"""Norms that Monitor records beside NumPy's, in float64."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import strategies
from tfscale.callbacks import Monitor

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]
ROWS, RATE = 12, 0.1


@pytest.fixture(scope="module")
def two_replicas() -> strategies.Strategy:
    return strategies.mirrored_strategy(num_replicas=2)


@pytest.fixture(scope="module")
def one_device(two_replicas: strategies.Strategy) -> strategies.Strategy:
    return strategies.one_device_strategy()  # after that one, which cuts the CPU in two


def rows() -> tuple[Any, Any]:
    draw = np.random.default_rng(1)
    return draw.normal(size=(ROWS, 3)), draw.normal(size=(ROWS, 2))


def model_in(strategy: Any, optimizer: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="only")])
        model.compile(optimizer(), "mse")
    return model


def sgd() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(RATE, global_clipnorm=0.5)


def scaled() -> keras.optimizers.Optimizer:
    inner = keras.optimizers.SGD(RATE, global_clipnorm=0.5)
    return keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)


@pytest.mark.parametrize(("replicas", "optimizer"), [("one_device", sgd), ("two_replicas", scaled)])
def test_norms_are_those_of_the_global_batch(
    replicas: str, optimizer: Any, request: pytest.FixtureRequest
) -> None:
    model = model_in(request.getfixturevalue(replicas), optimizer)
    monitor = Monitor(norms=True)
    x, y = rows()
    kernel, bias = model.get_weights()
    model.fit(x, y, batch_size=ROWS, callbacks=[monitor], verbose=0)
    residual = 2 * (x @ kernel + bias - y) / y.size
    gradient = np.hypot(np.linalg.norm(x.T @ residual), np.linalg.norm(residual.sum(axis=0)))
    weight = np.hypot(np.linalg.norm(kernel), np.linalg.norm(bias))
    assert monitor.last is not None
    assert monitor.last["gradient_norm"] == pytest.approx(gradient, rel=1e-9)
    (found,) = monitor.last["layers"].values()
    assert gradient > 0.5  # so it is clipped
    assert found == pytest.approx(
        {"gradient_norm": gradient, "weight_norm": weight, "update_ratio": RATE * 0.5 / weight},
        rel=1e-6,
    )
    assert monitor.last.get("loss_scale") == (8.0 if optimizer is scaled else None)


def test_training_with_norms_gives_the_same_weights(two_replicas: Any) -> None:
    found = []
    for callbacks in ([], [Monitor(norms=True)]):
        model = model_in(two_replicas, lambda: keras.optimizers.Adam(RATE))
        model.fit(*rows(), batch_size=4, epochs=2, callbacks=callbacks, verbose=0)
        found.append(model.get_weights())
    for plain, watched in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, watched)


def test_a_strategy_that_shards_is_refused() -> None:
    model = model_in(strategies.mirrored_strategy(num_replicas=2, shard=1), sgd)
    with pytest.raises(ValueError, match=r"`norms` must be False .*norms=True with shard=1"):
        model.fit(*rows(), callbacks=[Monitor(norms=True)], verbose=0)
