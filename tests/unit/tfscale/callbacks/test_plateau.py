"""When `ReduceOnPlateau` reduces, calculated by hand; on replicas: schedules/test_rates_used.py."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest

from tfscale import schedules
from tfscale.callbacks import ReduceOnPlateau


def model(learning_rate: Any, *, is_scaled: bool = False) -> Any:
    optimizer = keras.optimizers.SGD(learning_rate)
    if is_scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    made = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    made.compile(optimizer, "mse")
    return made


def watching(watch: ReduceOnPlateau, factor: float = 1.0) -> schedules.Adjustable:
    """Gives a callback a model, as `fit` does, and returns the model's schedule."""
    rate = schedules.adjustable(0.1, factor)
    watch.set_model(model(rate))
    watch.on_train_begin()
    return rate


def factors(watch: ReduceOnPlateau, values: list[float], name: str = "val_loss") -> list[float]:
    """The factor after each epoch's value."""
    rate = watching(watch)
    after = []
    for epoch, value in enumerate(values):
        watch.on_epoch_end(epoch, {name: value})
        after.append(rate.factor)
    return after


@pytest.mark.parametrize(
    ("arguments", "values", "wanted"),
    [
        # One epoch that is no better than the best, then the next; then counting starts again.
        ({"patience": 2}, [3, 2, 2, 2, 2, 2], [1, 1, 1, 0.5, 0.5, 0.25]),
        # An improvement in between.
        ({"patience": 2}, [3, 3, 2, 3, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0.5]),
        ({"patience": 1, "mode": "max"}, [1, 2, 1, 3, 3], [1, 1, 0.5, 0.5, 0.25]),
        # Just the least change is no improvement, and the best stays the best.
        ({"patience": 2, "min_delta": 0.5}, [3, 2.5, 2.5, 2.25], [1, 1, 0.5, 0.5]),
        ({"patience": 3, "min_delta": 0.5}, [3, 2.75, 2.25, 2], [1, 1, 1, 1]),
        # The two epochs after a reduction count for nothing; the fourth is the first to wait.
        ({"patience": 1, "cooldown": 2}, [3, 3, 3, 3, 3, 3], [1, 0.5, 0.5, 0.5, 0.25, 0.25]),
        # A better value while it cools down is a better value.
        ({"patience": 1, "cooldown": 1}, [3, 3, 1, 2], [1, 0.5, 0.5, 0.25]),
        ({"patience": 1, "min_factor": 0.3}, [1, 1, 1, 1], [1, 0.5, 0.3, 0.3]),
        ({"patience": 1}, [1, float("nan"), 0.5], [1, 0.5, 0.5]),
        ({"patience": 2}, [float("nan"), 5, 6, 6], [1, 1, 1, 0.5]),
    ],
)
def test_the_factor_falls_when_nothing_improves(
    arguments: dict[str, Any], values: list[float], wanted: list[float]
) -> None:
    assert factors(ReduceOnPlateau(factor=0.5, **arguments), values) == wanted


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
def test_without_cooldown_it_decides_as_keras_does_on_a_constant_rate() -> None:
    values = np.random.default_rng(3).uniform(size=60).tolist()
    theirs = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=2, min_delta=0.01)
    constant = model(1.0)
    theirs.set_model(constant)
    theirs.on_train_begin()
    wanted = []
    for epoch, value in enumerate(values):
        theirs.on_epoch_end(epoch, {"val_loss": value})
        wanted.append(float(constant.optimizer.learning_rate))
    assert wanted[-1] < 0.01
    assert factors(ReduceOnPlateau(factor=0.5, patience=2, min_delta=0.01), values) == wanted


def test_an_epoch_between_validations_counts_for_nothing() -> None:
    watch = ReduceOnPlateau(factor=0.5, patience=1, validation_freq=2)
    rate = watching(watch)
    for epoch in range(4):
        watch.on_epoch_end(epoch, {"loss": 1.0} | ({"val_loss": 1.0} if epoch % 2 else {}))
    assert rate.factor == 0.5


def test_a_value_that_is_not_there_is_named() -> None:
    watch = ReduceOnPlateau("val_los", validation_freq=2)
    watching(watch)
    watch.on_epoch_end(0, {"loss": 1.0})
    with pytest.raises(ValueError, match=r"`monitor` must be in the logs of epoch 1: .*val_loss"):
        watch.on_epoch_end(1, {"loss": 1.0, "val_loss": 1.0})


def test_logs_tell_the_factor_an_epoch_was_trained_with() -> None:
    made = model(schedules.adjustable(schedules.linear_decay(0.0, 5)))
    watch = ReduceOnPlateau("loss", factor=0.5, patience=1)
    history = made.fit(np.ones([4, 1]), np.ones([4, 1]), epochs=4, callbacks=[watch], verbose=0)
    assert history.history["learning_rate_factor"] == [1.0, 1.0, 0.5, 0.25]


def test_the_schedule_is_found_inside_loss_scaling() -> None:
    rate = schedules.adjustable(0.1)
    made = model(rate, is_scaled=True)
    watch = ReduceOnPlateau("loss", patience=1, min_delta=100.0)
    made.fit(np.ones([4, 1]), np.ones([4, 1]), epochs=2, callbacks=[watch], verbose=0)
    assert rate.factor == pytest.approx(0.1)


@pytest.mark.parametrize("rate", [0.1, schedules.warmup(0.1, 5)])
def test_a_rate_that_cannot_be_multiplied_is_refused_before_the_first_step(rate: Any) -> None:
    made = model(rate)
    rows = np.ones([4, 1])
    with pytest.raises(ValueError, match=r"tfscale\.schedules\.adjustable\(schedule\)"):
        made.fit(rows, rows, callbacks=[ReduceOnPlateau()], verbose=0)
    assert int(made.optimizer.iterations) == 0


def test_a_resumed_watch_goes_on_as_the_one_that_stopped() -> None:
    def watch() -> ReduceOnPlateau:
        return ReduceOnPlateau(factor=0.5, patience=3, cooldown=1)

    values = [3.0, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1]
    wanted = factors(watch(), values)
    for stop in range(1, len(values)):
        first, second = watch(), watch()
        before = factors(first, values[:stop])
        state = json.loads(json.dumps(first.state()))
        rate = watching(second)
        second.restore(state)
        after = []
        for epoch in range(stop, len(values)):
            second.on_epoch_end(epoch, {"val_loss": values[epoch]})
            after.append(rate.factor)
        assert before + after == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 1.0}, "`factor` must be above 0 and below 1. Received: factor=1.0"),
        ({"factor": 0.0}, "`factor` must be above 0"),
        ({"patience": 0}, "`patience` must be a positive integer"),
        ({"mode": "auto"}, "`mode` must be one of min, max. Received: mode='auto'"),
        ({"min_delta": -1.0}, "`min_delta` must be at least 0"),
        ({"cooldown": -1}, "`cooldown` must be an integer, at least 0"),
        ({"min_factor": 2.0}, "`min_factor` must be from 0 to 1"),
        ({"validation_freq": 0}, "`validation_freq` must be a positive integer"),
    ],
)
def test_the_impossible_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReduceOnPlateau(**arguments)
