"""Lookups in embeddings in parts: 30 steps are those of stock Keras on one device, in float64."""

from __future__ import annotations

import pytest
import tensorflow as tf

from tests.unit.strategies.keras_support.beside_one_device import Found
from tests.unit.strategies.keras_support.sharding.small_models import embeddings
from tests.unit.strategies.keras_support.sharding.trainings import (
    OFTEN_USED,
    Compared,
    Optimizer,
    Sharded,
    at_all_stages,
    thirty_steps,
)

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.thorough,
    pytest.mark.usefixtures("in_double_precision"),
]


@pytest.mark.parametrize(("optimizer", "stage", "replicas"), at_all_stages(OFTEN_USED, turn=2))
def test_thirty_steps_are_those_of_one_device(
    optimizer: Optimizer, stage: int, replicas: int, sharded: Sharded, compared: Compared
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        return thirty_steps(strategy, embeddings, optimizer)

    compared(optimizer, program, sharded(stage, replicas))
