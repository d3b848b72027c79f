"""What measures steps refuses workers that take them at different times."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from tests.unit.strategies.servers_in_process import with_servers
from tfscale.callbacks import InputWait, Monitor, Profile

pytestmark = pytest.mark.own_process


def test_asynchronous_training_is_refused_with_the_cure(tmp_path: Path) -> None:
    strategy = with_servers()
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", "mse")
    cures: dict[keras.callbacks.Callback, str] = {
        Monitor(): "Use another strategy, or leave Monitor out.",
        Profile(tmp_path): "Use another strategy, or leave Profile out.",
        InputWait(): "Measure one worker's input: tfscale data bench.",
    }
    for callback, cure in cures.items():
        callback.set_model(model)
        name = type(callback).__name__
        with pytest.raises(ValueError, match="must be trained by synchronous workers") as refused:
            callback.on_train_begin()
        assert f"to use {name}. Received: ParameterServerStrategy" in str(refused.value)
        assert str(refused.value).endswith(cure)
