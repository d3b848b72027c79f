"""A pruning run that is stopped and resumed ends like one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.tfscale.shrink.pruning.pruned_by_hand import BATCH, X, Y, fitted, network, sgd
from tfscale.callbacks import Checkpoint
from tfscale.checkpoints import CheckpointDirectory
from tfscale.shrink import CubicSparsity, Prune

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("two", "in_double_precision")]

SCHEDULE = CubicSparsity(0.75, begin=2, end=14, every=3)


def stopped_and_resumed(folder: Path, first: Any, then: Any, **arguments: Any) -> tuple[Prune, Any]:
    """Trains two of four epochs under one strategy and the rest under another."""
    weights = None
    for strategy, epochs in ((first, 2), (then, 4)):
        prune = Prune(SCHEDULE, **arguments)
        weights = fitted(
            network(strategy, sgd(momentum=0.5)), prune, Checkpoint(folder), epochs=epochs
        )
    return prune, weights


def test_it_resumes_on_other_replicas(two: tf.distribute.Strategy, tmp_path: Path) -> None:
    prune = Prune(SCHEDULE, score="movement")
    expected = fitted(network(two, sgd(momentum=0.5)), prune)
    one = strategies.one_device_strategy("CPU:0")
    resumed, found = stopped_and_resumed(tmp_path, two, one, score="movement")
    assert resumed.steps == prune.steps == 16
    for name, value in prune.state_arrays().items():
        if name.startswith("mask"):
            np.testing.assert_array_equal(resumed.state_arrays()[name], value)
        else:
            np.testing.assert_allclose(resumed.state_arrays()[name], value, rtol=1e-9, atol=1e-12)
    for weight, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.thorough
def test_the_masks_of_other_weights_are_refused(
    two: tf.distribute.Strategy, tmp_path: Path
) -> None:
    fitted(network(two, sgd()), Prune(SCHEDULE), Checkpoint(tmp_path), epochs=1)
    (step,) = CheckpointDirectory(tmp_path).steps()
    assert step == -(-len(X) // BATCH) == 4
    assert len(Y) == len(X)
    for other in ({"keep": ["hidden"]}, {"score": "movement"}):
        with pytest.raises(ValueError, match="`Prune` must mask the weights that it masked in"):
            fitted(network(two, sgd()), Prune(SCHEDULE, **other), Checkpoint(tmp_path), epochs=2)
