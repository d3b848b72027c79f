"""Strategies of one process, and what one device found."""

from __future__ import annotations

import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    Program,
    assert_equal,
    on_one_device,
    on_strategy,
)
from tests.unit.strategies.keras_support.sharding.trainings import Compared, Sharded


@pytest.fixture(scope="module")
def sharded() -> Sharded:
    """Returns the strategy of a stage and a number of replicas, up to four."""
    strategies.mirrored_strategy(4)
    made: dict[tuple[int, int], tf.distribute.Strategy] = {}

    def of(stage: int, replicas: int) -> tf.distribute.Strategy:
        if (stage, replicas) not in made:
            devices = [f"CPU:{i}" for i in range(replicas)]
            made[stage, replicas] = strategies.mirrored_strategy(devices=devices, shard=stage)
        return made[stage, replicas]

    return of


@pytest.fixture(scope="module")
def compared() -> Compared:
    """Compares a program with one device, which runs it once for all strategies.

    Its arguments: what the program is known by, the program, the strategy.
    """
    expected: dict[object, Found] = {}

    def compare(key: object, program: Program, strategy: tf.distribute.Strategy) -> None:
        if key not in expected:
            expected[key] = on_one_device(program)
        assert_equal(on_strategy(program, strategy), expected[key])

    return compare
