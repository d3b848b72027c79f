"""Lets modules marked `own_process` run in a separate process here too; Keras in float64."""

from __future__ import annotations

import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.conftest import (  # noqa: F401  (hooks of pytest)
    pytest_configure,
    pytest_runtest_protocol,
    pytest_unconfigure,
)
from tests.unit.strategies.keras_support.conftest import in_double_precision  # noqa: F401


@pytest.fixture(scope="module")
def two() -> tf.distribute.Strategy:
    """Two replicas. A module names it in `usefixtures`: TensorFlow makes its logical CPUs once."""
    return strategies.mirrored_strategy(2)


@pytest.fixture(scope="module")
def one() -> tf.distribute.Strategy:
    return strategies.one_device_strategy("CPU:0")
