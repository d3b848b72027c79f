"""When `StopAt` stops, calculated by hand."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np
import pytest

from tfscale.callbacks import StopAt


def halving(callback: StopAt, steps_per_execution: int = 1) -> Any:
    """Trains at most 5 epochs of 3 steps, at each of which the weight w goes from 1 to w / 2.

    The loss of a step is w^2 = 4^-i, and an epoch's the mean of its three:
    (1 + 1/4 + 1/16) / 3 = 0.4375 in the first, 1/64 of that in the second, and so on.
    """
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), dense])
    model.compile(keras.optimizers.SGD(0.25), "mse", steps_per_execution=steps_per_execution)
    rows = np.ones([6, 1])
    return model.fit(rows, 0 * rows, batch_size=2, epochs=5, callbacks=[callback], verbose=0)


def test_it_stops_after_the_epoch_that_reached_the_target(
    capfd: pytest.CaptureFixture[str],
) -> None:
    target = StopAt("loss", 0.0069)  # the second epoch's is 0.00684
    began = time.monotonic()
    history = halving(target)
    assert len(history.epoch) == 2
    assert target.reached is not None
    assert (target.reached.epoch, target.reached.step) == (1, 6)
    assert target.reached.value == pytest.approx(0.4375 / 64)
    assert 0 < target.reached.seconds <= time.monotonic() - began
    assert "loss reached 0.00683594 (target 0.0069) after 6 steps" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("every_steps", "steps_per_execution", "step"),
    [(1, 1, 2), (3, 1, 3), (1, 2, 2), (2, 3, 3)],  # the mean of two steps is 0.625
)
def test_it_looks_between_the_ends_of_epochs_if_asked(
    every_steps: int, steps_per_execution: int, step: int
) -> None:
    target = StopAt("loss", 0.7, every_steps=every_steps)
    halving(target, steps_per_execution)
    assert target.reached is not None
    assert (target.reached.epoch, target.reached.step) == (0, step)


def test_a_target_that_is_not_reached_stops_nothing() -> None:
    target = StopAt("loss", 0.0)
    assert len(halving(target).epoch) == 5
    assert target.reached is None


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        ("val_accuracy", "max"),
        ("sparse_categorical_accuracy", "max"),
        ("auc", "max"),
        ("val_loss", "min"),
        ("mean_absolute_error", "min"),
        ("val_mae", "min"),
    ],
)
def test_names_of_keras_tell_the_direction(monitor: str, mode: str) -> None:
    assert StopAt(monitor, 0.5).mode == mode


def seen(callback: StopAt, values: list[dict[str, float]]) -> int | None:
    """The epoch in which it is reached."""
    callback.set_model(keras.Sequential())
    callback.on_train_begin()
    for epoch, logs in enumerate(values):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, logs)
    return callback.reached.epoch if callback.reached else None


def test_equal_is_reached_and_nan_is_not() -> None:
    values = [{"m": float("nan")}, {"m": 0.5}, {"m": 0.75}]
    assert seen(StopAt("m", 0.75, mode="max"), values) == 2
    assert seen(StopAt("m", 0.5, mode="min"), values) == 1


def test_epochs_between_validations_are_passed_over() -> None:
    values = [{"loss": 1.0}, {"loss": 1.0, "val_loss": 0.5}]
    assert seen(StopAt("val_loss", 0.5, validation_freq=2), values) == 1
    with pytest.raises(ValueError, match=r"`monitor` must be in the logs of epoch 0: loss"):
        seen(StopAt("val_loss", 0.5), values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"monitor": "perplexity"}, "`mode` must be min or max for a value with an unknown name"),
        ({"mode": "up"}, "`mode` must be one of auto, min, max. Received: mode='up'"),
        ({"value": float("nan")}, "`value` must be a finite number. Received: value=nan"),
        ({"every_steps": 0}, "`every_steps` must be a positive integer"),
        ({"validation_freq": 0}, "`validation_freq` must be a positive integer"),
    ],
)
def test_the_impossible_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StopAt(**{"monitor": "loss", "value": 0.5, **arguments})
