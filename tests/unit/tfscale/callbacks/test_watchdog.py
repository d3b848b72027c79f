"""Arguments and models that a Watchdog refuses."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tfscale.callbacks import Watchdog


@pytest.mark.parametrize(
    "seconds", [0, -1.0, 7, float("nan"), float("inf"), "60", None, True, [60], 60 + 0j]
)
def test_an_impossible_deadline_is_refused(seconds: Any) -> None:
    with pytest.raises(ValueError, match="`deadline_seconds` must be a number of seconds above 7"):
        Watchdog(seconds)


def test_a_model_that_is_not_under_one_of_our_strategies_is_refused() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    rows = np.ones([4, 1])
    with pytest.raises(ValueError, match=r"`model` must be .* to use Watchdog"):
        model.fit(rows, rows, callbacks=[Watchdog()], verbose=0)
