"""Sharded state trains to the numbers of stock Keras on one device, in float64."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.strategies.keras_support.beside_one_device import Found, assert_like_one_device
from tests.unit.strategies.keras_support.sharding.small_models import (
    Build,
    Work,
    dense_layers,
    embeddings,
    six_columns,
)
from tests.unit.strategies.keras_support.sharding.trainings import (
    OTHERS,
    Compared,
    Optimizer,
    Sharded,
    accumulated_adam,
    at_all_stages,
    averaged_lamb,
    clipped_adamw,
    scaled,
    thirty_steps,
    trained,
)

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

CASES: dict[str, tuple[int, Build, Optimizer]] = {
    "clipped AdamW at 1": (1, embeddings, clipped_adamw),
    "accumulation at 2": (2, dense_layers, accumulated_adam),
    "LAMB and averages at 3": (3, dense_layers, averaged_lamb),
}


@pytest.mark.parametrize("case", CASES)
def test_three_replicas_train_as_one_device(case: str, sharded: Sharded) -> None:
    stage, build, optimizer = CASES[case]
    assert_like_one_device(lambda s: trained(s, build, optimizer), sharded(stage, 3))


def overflowing() -> Work:
    labels = np.zeros((22, 6))
    labels[9, 0] = 1.7e308  # twice that is inf; the other replicas' columns are finite
    return dataclasses.replace(six_columns(), labels=labels)


def test_a_step_in_which_one_replica_overflows_is_skipped_by_all(sharded: Sharded) -> None:
    expected = assert_like_one_device(lambda s: trained(s, overflowing, scaled), sharded(2, 3))
    weights = [value for name, value in expected.items() if name.startswith("weight")]
    assert all(np.isfinite(weight).all() for weight in weights)
    scalars = [float(v) for n, v in expected.items() if n.startswith("slot") and not np.ndim(v)]
    assert 4 in scalars, "the second of three steps is skipped, in both epochs"


@pytest.mark.thorough
@pytest.mark.parametrize(("optimizer", "stage", "replicas"), at_all_stages(OTHERS, turn=0))
def test_thirty_steps_are_those_of_one_device(
    optimizer: Optimizer, stage: int, replicas: int, sharded: Sharded, compared: Compared
) -> None:
    def program(strategy: tf.distribute.Strategy) -> Found:
        return thirty_steps(strategy, dense_layers, optimizer)

    compared(optimizer, program, sharded(stage, replicas))
