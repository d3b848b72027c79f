"""Set-up of trainings that are compared with one device."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def in_double_precision() -> None:
    """Makes Keras compute in float64, in which whole runs are compared."""
    import keras  # in the module's own process, not where tests are collected

    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
