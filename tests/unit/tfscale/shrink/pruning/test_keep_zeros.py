"""A model that is pruned already goes on training with its zeros: NumPy is the reference."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.shrink.pruning.pruned_by_hand import (
    BATCH,
    EPOCHS,
    RATE,
    Array,
    X,
    Y,
    fitted,
    gradients,
    network,
    sgd,
)
from tfscale.callbacks import Checkpoint
from tfscale.shrink import KeepZeros, OneShot, Prune

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.usefixtures("in_double_precision", "two"),
]

MOMENTUM = 0.5


def sparse(strategy: tf.distribute.Strategy, **compiling: Any) -> keras.Model:
    """The network of the other tests, with zeros that are no multiple of a fraction."""
    model = network(strategy, sgd(momentum=MOMENTUM), **compiling)
    weights = model.get_weights()
    for kernel in weights[::2]:
        kernel[np.abs(kernel) < 0.2] = 0
    model.set_weights(weights)
    return model


def trained_by_hand(weights: list[Array]) -> list[Array]:
    """Gradient descent with momentum in which the gradient of a zero is zero."""
    masks = {i: weights[i] != 0 for i in (0, 2)}
    speeds = [np.zeros_like(weight) for weight in weights]
    for _ in range(EPOCHS):
        for begin in range(0, len(X), BATCH):
            rows = slice(begin, begin + BATCH)
            for i, gradient in enumerate(gradients(weights, X[rows], Y[rows])):
                speeds[i] = MOMENTUM * speeds[i] - RATE * gradient * masks.get(i, 1)
            weights = [weight + speed for weight, speed in zip(weights, speeds, strict=True)]
    return weights


def test_zeros_stay_and_the_rest_trains(
    one: tf.distribute.Strategy, two: tf.distribute.Strategy
) -> None:
    zeros = [weight == 0 for weight in sparse(one).get_weights()[::2]]
    expected = trained_by_hand(sparse(one).get_weights())
    for strategy in (one, two):
        callback = KeepZeros()
        weights = fitted(sparse(strategy, steps_per_execution=4), callback)
        for mask, weight in zip(zeros, weights[::2], strict=True):
            assert 0.05 < mask.mean() < 0.95
            np.testing.assert_array_equal(weight == 0, mask)
        for weight, wanted in zip(weights, expected, strict=True):
            np.testing.assert_allclose(weight, wanted, rtol=1e-9, atol=1e-12)
        masked = [mask.mean() for mask in zeros]
        np.testing.assert_allclose(list(callback.sparsity().values()), masked)


def test_zeros_come_from_a_checkpoint(one: tf.distribute.Strategy, tmp_path: Any) -> None:
    undisturbed = fitted(sparse(one), KeepZeros())
    model = sparse(one)
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 0)
    )
    fitted(model, KeepZeros(), stop, Checkpoint(tmp_path, asynchronous=False))
    # A new program begins with other weights, which have no zeros.
    resumed = fitted(network(one, sgd(momentum=MOMENTUM)), KeepZeros(), Checkpoint(tmp_path))
    for weight, wanted in zip(resumed, undisturbed, strict=True):
        np.testing.assert_array_equal(weight, wanted)


def test_what_has_no_zeros_is_refused(one: tf.distribute.Strategy) -> None:
    with pytest.raises(ValueError, match="must have weights that are zero, for KeepZeros"):
        fitted(network(one, sgd()), KeepZeros())
    with pytest.raises(ValueError, match="`callbacks` must contain one of KeepZeros and Prune"):
        fitted(sparse(one), KeepZeros(), Prune(OneShot(0.5)))
    with pytest.raises(ValueError, match=r"`keep` must match .*'middle'"):
        fitted(sparse(one), KeepZeros(keep=["middle"]))
    with pytest.raises(ValueError, match=r"`targets` must contain regular expressions"):
        KeepZeros(targets=["("])
