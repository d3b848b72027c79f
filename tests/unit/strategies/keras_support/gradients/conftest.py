"""Strategies of several sizes in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import tensorflow as tf


@pytest.fixture(scope="module")
def by_replicas() -> dict[int, tf.distribute.Strategy]:
    """One device, and two and three mirrored replicas, by their number."""
    import strategies  # in the module's own process, not where tests are collected

    three = strategies.mirrored_strategy(3)
    two = strategies.mirrored_strategy(devices=["CPU:0", "CPU:1"])
    return {1: strategies.one_device_strategy("CPU:0"), 2: two, 3: three}
