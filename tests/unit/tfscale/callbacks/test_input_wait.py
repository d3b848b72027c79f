"""InputWait beside trainings whose times are known: see `input_wait_training`."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import keras
import numpy as np
import pytest

import strategies
from tests.undisturbed import Lateness, undisturbed
from tests.unit.tfscale.callbacks.input_wait_training import batches, forgetting, model
from tfscale.callbacks import InputWait, Watchdog, input_wait

INPUT, STEP = 0.1, 0.01
"""Seconds of a batch and of a step: nine tenths of the time wait. A busy machine adds to both."""
LONG_STEP = 0.05
"""Of which the milliseconds that a busy machine adds to each batch are less than a tenth."""
LEAST, MOST = 0.4, 0.95
STEPS = 24


@pytest.fixture(scope="module")
def one_device() -> strategies.Strategy:
    return strategies.one_device_strategy()


def trained(
    strategy: strategies.Strategy,
    seconds: float,
    computing: float,
    steps: int = STEPS,
    **compiled: Any,
) -> InputWait:
    """Returns the callback after one epoch."""
    return fitted(strategy, InputWait(verbose=2), seconds, computing, steps, **compiled)[0]


def fitted(
    strategy: strategies.Strategy,
    callback: InputWait,
    seconds: float,
    computing: float,
    steps: int = STEPS,
    epochs: int = 1,
    others: tuple[Any, ...] = (),
    **compiled: Any,
) -> tuple[InputWait, dict[str, Any], str]:
    """Returns the callback, the history, and what was said on standard error."""

    def measure(lateness: Lateness) -> tuple[InputWait, dict[str, Any], str]:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            history = model(strategy, computing, **compiled).fit(
                batches(seconds, steps),
                epochs=epochs,
                callbacks=[callback, *others, forgetting(lateness)],
                shuffle=False,
                verbose=0,
            )
        return callback, history.history, said.getvalue()

    return undisturbed(measure)


def test_input_that_takes_ten_times_a_step_waits_most_of_the_time(
    one_device: strategies.Strategy,
) -> None:
    callback, _, text = fitted(one_device, InputWait(verbose=2), INPUT, STEP)
    found = callback.waiting
    assert found is not None
    assert found.is_input_bound
    assert LEAST < found.part < MOST
    said = re.findall(r"tfscale: input-bound: (\d+)% of the time waits .*", text)
    assert said == [f"{found.part:.0%}".rstrip("%")]


def test_input_that_a_step_hides_is_compute_bound(one_device: strategies.Strategy) -> None:
    callback, _, said = fitted(one_device, InputWait(verbose=2), LONG_STEP / 8, LONG_STEP)
    assert callback.waiting is not None
    assert not callback.waiting.is_input_bound
    assert "tfscale: compute-bound: " in said


def test_steps_of_one_execution_are_counted_one_by_one(one_device: strategies.Strategy) -> None:
    found = trained(one_device, INPUT, STEP, steps_per_execution=4).waiting
    assert found is not None
    assert LEAST < found.part < MOST
    shown = re.search(r"of ([\d.]+) ms a step", found.text)
    assert shown is not None
    assert 1e3 * INPUT * 0.9 < float(shown[1]) < 2.5e3 * INPUT


def test_logs_have_the_part_of_each_epoch_and_the_line_comes_once(
    one_device: strategies.Strategy,
) -> None:
    _, history, said = fitted(one_device, InputWait(in_logs=True), INPUT, STEP, 12, epochs=3)
    parts = history["input_wait"]
    assert all(LEAST < part < MOST for part in parts), parts
    assert said.count("input-bound") == 1


def test_watchdog_in_the_same_list_keeps_its_seconds(one_device: strategies.Strategy) -> None:
    wait, watchdog = InputWait(), Watchdog()
    fitted(one_device, wait, INPUT, STEP, 12, others=(watchdog,))
    seconds = watchdog.seconds[0]
    assert seconds["input"] > 8 * (INPUT - STEP)
    assert seconds["step"] > 8 * STEP
    assert wait.waiting is not None
    assert wait.waiting.is_input_bound


def test_verbose_1_is_silent_if_the_input_is_no_limit(one_device: strategies.Strategy) -> None:
    _, _, said = fitted(one_device, InputWait(), 0.0, LONG_STEP)
    assert "bound" not in said


def test_wait_that_a_busy_device_hides_does_not_count(
    one_device: strategies.Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A device on which calls return early: its awaited steps take all of the time.
    monkeypatch.setattr(input_wait, "all_on", lambda kind, strategy: False)
    monkeypatch.setattr(input_wait.InputWait, "_sample", lambda self: self._sampled.append(1.0))
    found = trained(one_device, INPUT, STEP).waiting
    assert found is not None
    assert not found.is_input_bound


def test_awaited_steps_leave_out_the_wait(
    one_device: strategies.Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_wait, "all_on", lambda kind, strategy: False)
    callback = trained(one_device, INPUT, STEP)
    assert callback.waiting is not None
    assert LEAST < callback.waiting.part < MOST
    assert STEP <= min(callback._sampled) < 3 * STEP


def test_model_that_is_not_under_a_strategy_is_refused() -> None:
    plain = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    plain.compile("sgd", "mse")
    rows = np.ones([4, 1])
    with pytest.raises(ValueError, match=r"`model` must be .* to use InputWait"):
        plain.fit(rows, rows, callbacks=[InputWait()], verbose=0)


@pytest.mark.parametrize("arguments", [{"verbose": 3}, {"in_logs": "yes"}])
def test_impossible_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        InputWait(**arguments)  # type: ignore[arg-type]
