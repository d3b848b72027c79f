"""One device: the default one, or the one that was named."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest

import strategies
from tests.programs import forked

pytestmark = pytest.mark.own_process


@pytest.mark.parametrize("device", ["CPU:0", "cpu:0", "/device:CPU:0", "/CPU:0"])
def test_a_device_may_be_spelled_as_tensorflow_spells_it(device: str) -> None:
    strategy = strategies.one_device_strategy(device)
    assert strategy.num_replicas_in_sync == 1
    assert strategy.extended.worker_devices[0].endswith("device:CPU:0")


@pytest.mark.parametrize("device", ["GPU:99", "CPU:1", "TPU:0", "CPU", "0"])
def test_an_unknown_device_is_refused_with_the_known_ones(device: str) -> None:
    message = (
        f"`device` must be a device of this host. Received: device='{device}'. Choose from .*CPU"
    )
    with pytest.raises(ValueError, match=message):
        strategies.one_device_strategy(device)


def test_an_empty_device_name_is_refused() -> None:
    with pytest.raises(ValueError, match="`device` must"):
        strategies.one_device_strategy("")


def test_the_choice_is_announced_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    strategies.one_device_strategy("CPU:0")
    output, errors = capfd.readouterr()
    assert output == ""
    assert errors.startswith("tfscale: one replica on CPU:0")


def test_the_first_of_several_cpus_is_called_so() -> None:
    code = (
        "import strategies\n"
        "strategies.mirrored_strategy(num_replicas=2)  # makes two logical CPUs\n"
        "strategies.one_device_strategy()\n"
    )
    ended = subprocess.run(
        [sys.executable, *forked("-c", code)], capture_output=True, text=True, check=True
    )
    assert "one replica on CPU:0 (the first CPU)." in ended.stderr


def test_an_empty_batch_behaves_as_in_stock_keras() -> None:
    with strategies.one_device_strategy().scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    assert np.isnan(model.train_on_batch(np.ones([0, 2]), np.ones([0, 1])))
