"""Lets modules marked `own_process` run in a separate process here too; Keras in float64."""

from __future__ import annotations

from tests.unit.strategies.conftest import (  # noqa: F401  (hooks of pytest)
    pytest_configure,
    pytest_runtest_protocol,
    pytest_unconfigure,
)
from tests.unit.strategies.keras_support.conftest import in_double_precision  # noqa: F401
from tests.unit.tfscale.shrink.conftest import one, two  # noqa: F401
