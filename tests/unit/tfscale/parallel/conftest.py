"""Lets modules marked `own_process` run in a separate process here too; their strategies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.strategies.conftest import (  # noqa: F401  (hooks of pytest)
    pytest_configure,
    pytest_runtest_protocol,
    pytest_unconfigure,
)
from tests.unit.strategies.keras_support.conftest import in_double_precision  # noqa: F401


@pytest.fixture(scope="module")
def by_shape() -> dict[str, Any]:
    """Strategies by replicas and devices of each."""
    import strategies

    two_by_two = strategies.mirrored_strategy(2, devices_per_replica=2)
    one_by_two = strategies.mirrored_strategy(devices=["CPU:0", "CPU:1"], devices_per_replica=2)
    one_by_four = strategies.mirrored_strategy(1, devices_per_replica=4)
    return {"2x2": two_by_two, "1x2": one_by_two, "1x4": one_by_four}
