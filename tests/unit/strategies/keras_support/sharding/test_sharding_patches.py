"""Each patch for sharded state is needed: without it a program fails or has other results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from strategies.keras_support.patches import (
    AVERAGES,
    CLIP,
    FINITE,
    OPTIMIZER_BUILD,
    PATCHES,
    SET_AVERAGES,
    SLOT,
    SWAP_AVERAGES,
)
from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.patch import Patch
from tests.unit.strategies.keras_support.beside_one_device import (
    Found,
    X,
    Y,
    assert_like_one_device,
    found,
)
from tests.without_patches import without

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.thorough,
    pytest.mark.usefixtures("in_double_precision"),
]

OPTIMIZERS = keras.optimizers


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(3, shard=3)


def trained(
    strategy: tf.distribute.Strategy,
    optimizer: Callable[[], Any],
    labels: Any = Y,
    *callbacks: Any,
) -> Found:
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(labels.shape[1])])
        model.compile(optimizer(), "mse", auto_scale_loss=False)
    history = model.fit(
        X,
        labels,
        batch_size=8,
        epochs=2,
        shuffle=False,
        validation_data=(X, labels),
        verbose=0,
        callbacks=list(callbacks),
    )
    slots = {f"slot {i}": v.numpy() for i, v in enumerate(model.optimizer.variables)}
    return found(model, history, **slots)


def adam(strategy: tf.distribute.Strategy) -> Found:
    return trained(strategy, lambda: OPTIMIZERS.Adam(0.01))


def averaged_adam() -> Any:
    return OPTIMIZERS.Adam(0.01, use_ema=True, ema_momentum=0.9)


def averages(strategy: tf.distribute.Strategy) -> Found:
    return trained(strategy, averaged_adam)


def swapped(strategy: tf.distribute.Strategy) -> Found:
    return trained(
        strategy,
        averaged_adam,
        Y,
        keras.callbacks.SwapEMAWeights(),
    )


def swapped_on_epochs(strategy: tf.distribute.Strategy) -> Found:
    return trained(
        strategy,
        averaged_adam,
        Y,
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
    )


def clipped(strategy: tf.distribute.Strategy) -> Found:
    return trained(strategy, lambda: OPTIMIZERS.SGD(0.1, global_clipnorm=0.05))


def overflowing(strategy: tf.distribute.Strategy) -> Found:
    labels = np.zeros((22, 6))
    labels[9, 0] = 1.7e308  # twice that is inf; the other replicas' columns are finite

    def scaled() -> Any:
        return OPTIMIZERS.LossScaleOptimizer(OPTIMIZERS.Adam(0.01), dynamic_growth_steps=2)

    return trained(strategy, scaled, labels)


SHOWN_BY: dict[Patch, Callable[[tf.distribute.Strategy], Found]] = {
    OPTIMIZER_BUILD: adam,
    SLOT: adam,
    AVERAGES: averages,
    SWAP_AVERAGES: swapped,
    SET_AVERAGES: swapped_on_epochs,
    CLIP: clipped,
    FINITE: overflowing,
}


def test_each_patch_for_sharded_state_is_here() -> None:
    assert set(SHOWN_BY) == {patch for patch in PATCHES if patch.need is Need.SHARDING}


@pytest.mark.parametrize("patch", SHOWN_BY, ids=lambda patch: patch.target)
def test_without_a_patch_results_differ(patch: Patch, strategy: tf.distribute.Strategy) -> None:
    assert_like_one_device(SHOWN_BY[patch], strategy)
    differs = (AssertionError, ValueError, TypeError, AttributeError, RuntimeError)
    with without((patch,)), pytest.raises(differs):
        assert_like_one_device(SHOWN_BY[patch], strategy)
