"""Lets modules marked `own_process` run in a separate process here too."""

from tests.unit.strategies.conftest import (  # noqa: F401  (hooks of pytest)
    pytest_configure,
    pytest_runtest_protocol,
    pytest_unconfigure,
)
