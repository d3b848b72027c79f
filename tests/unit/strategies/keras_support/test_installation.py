"""Fixes are installed with our strategies, for them only, and for the right Keras only."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from tests.programs import completed, forked

TRAINING = Path(__file__).with_name("plain_training.py")
BUILD = "import strategies; strategies.one_device_strategy()"
DEADLINE_SECONDS = 300


Numbers = dict[str, list[str]]


def numbers_of(fixes: str) -> Numbers:
    """All results of each training, as hexadecimal digits of their bits."""
    result = completed(*forked(str(TRAINING), fixes), timeout=DEADLINE_SECONDS)
    assert result.returncode == 0, result.stderr
    numbers: Numbers = json.loads(result.stdout)
    return numbers


@pytest.fixture(scope="module")
def stock() -> Numbers:
    return numbers_of("stock")


@pytest.fixture(scope="module")
def supported() -> Numbers:
    return numbers_of("supported")


def test_without_a_strategy_keras_trains_to_the_same_bits(
    stock: Numbers, supported: Numbers
) -> None:
    assert supported["none"] == stock["none"]


def test_under_a_plain_strategy_keras_trains_to_the_same_bits(
    stock: Numbers, supported: Numbers
) -> None:
    assert supported["own"] == stock["own"]


def test_the_fixes_change_the_training_of_these_tests(supported: Numbers) -> None:
    assert supported["ours"] != supported["own"]


@pytest.mark.parametrize("backend", ["jax", "numpy", "torch"])
def test_another_backend_of_keras_is_refused_with_the_cure(backend: str) -> None:
    # Keras's NumPy backend imports JAX too.
    missing = {"jax": ["jax"], "numpy": ["jax", "scipy"], "torch": ["torch"]}[backend]
    if any(importlib.util.find_spec(name) is None for name in missing):
        pytest.skip(f"Keras's backend {backend} needs {' and '.join(missing)}")
    result = completed("-c", BUILD, timeout=DEADLINE_SECONDS, KERAS_BACKEND=backend)
    expected = rf"RuntimeError: `KERAS_BACKEND` must be 'tensorflow'.*KERAS_BACKEND='{backend}'"
    assert re.search(expected, result.stderr), result.stderr


def test_the_backend_that_keras_reports_decides() -> None:
    """Replaces the test above if no other backend is installed."""
    pretend = "from keras.src.backend import config; config._BACKEND = 'torch'"
    result = completed(*forked("-c", f"import keras; {pretend}; {BUILD}"), timeout=DEADLINE_SECONDS)
    assert "Received: KERAS_BACKEND='torch'. Set the environment variable" in result.stderr
    assert result.returncode == 1


def test_tensorflow_started_with_one_cpu_allows_one_replica_and_refuses_two() -> None:
    code = """
import tensorflow as tf, strategies
tf.zeros([])
print(strategies.mirrored_strategy().num_replicas_in_sync, flush=True)
strategies.mirrored_strategy(2)
"""
    result = completed(*forked("-c", code), timeout=DEADLINE_SECONDS)
    assert result.stdout == "1\n"
    expected = "RuntimeError: 2 logical CPU devices must be made before TensorFlow starts"
    assert expected in result.stderr
    assert "Build the strategy first" in result.stderr


CHANGED_SYMBOL = """
import dataclasses, sys
import strategies
from strategies.keras_support import installation

def with_changed(symbols, name):
    return tuple(dataclasses.replace(each, accepted=()) if each.target.endswith(name) else each
                 for each in symbols)

installation.KERAS_SYMBOLS = with_changed(installation.KERAS_SYMBOLS, sys.argv[1])
try:
    strategies.one_device_strategy()
except RuntimeError as error:
    print(error)
else:
    print("built")
"""


@pytest.mark.parametrize(
    ("symbol", "is_refused"),
    [
        pytest.param("keras:Layer._losses", True, id="of all strategies"),
        pytest.param("CallbackList._async_train", False, id="of several workers"),
    ],
)
def test_a_changed_private_symbol_refuses_the_strategies_that_need_it(
    symbol: str, is_refused: bool
) -> None:
    result = completed(*forked("-c", CHANGED_SYMBOL, symbol), timeout=DEADLINE_SECONDS)
    assert result.returncode == 0, result.stderr
    if is_refused:
        assert f"in which {symbol} changed. Install releases" in result.stdout
    else:
        assert result.stdout.splitlines()[-1] == "built"


GONE_SYMBOL = """
import importlib, sys
module, name = sys.argv[1].split(":")
del importlib.import_module(module).__dict__[name]
import strategies
try:
    strategies.one_device_strategy()
except RuntimeError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "symbol",
    [
        "keras.src.backend.common.stateless_scope:in_stateless_scope",
        "keras.src.trainers.epoch_iterator:EpochIterator",
        "tensorflow.python.framework.none_tensor:NoneTensorSpec",
    ],
)
def test_a_release_without_a_private_symbol_is_refused_by_its_name(symbol: str) -> None:
    result = completed(*forked("-c", GONE_SYMBOL, symbol), timeout=DEADLINE_SECONDS)
    assert result.returncode == 0, result.stderr
    module, name = symbol.split(":")
    # Before Python 3.12 an ImportError does not say the name.
    expected = f"Received: releases without {module}"
    if sys.version_info >= (3, 12):
        expected += f".{name}"
    assert f"{expected}. Install releases" in result.stdout


RESTORED = """
import keras, numpy as np
original = keras.optimizers.Optimizer.apply
import strategies
with strategies.mirrored_strategy(2).scope():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
owner = next(each for each in keras.optimizers.Optimizer.__mro__ if "apply" in vars(each))
owner.apply = original
try:
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
except RuntimeError as error:
    print(error)
"""


def test_a_patch_that_another_library_has_undone_is_named_before_a_step_is_built() -> None:
    result = completed(*forked("-c", RESTORED), timeout=DEADLINE_SECONDS)
    assert result.returncode == 0, result.stderr
    assert "keras:Optimizer.apply must stay as tfscale has patched it. Received: " in result.stdout
