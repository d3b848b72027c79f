"""Whole channels pruned in the step, against NumPy, and cut out afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.shrink.pruning.pruned_by_hand import (
    BATCH,
    EPOCHS,
    HIDDEN,
    RATE,
    Array,
    X,
    Y,
    first_weights,
    fitted,
    gradients,
    network,
    sgd,
)
from tests.unit.tfscale.shrink.structured.cut_models import (
    batch_for,
    outputs_of,
    residual,
    with_drawn_weights,
)
from tfscale.callbacks import Checkpoint, LocalUpdates
from tfscale.shrink import CubicSparsity, OneShot, Prune, channel_groups, cut

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("two", "in_double_precision")]

SCHEDULE = CubicSparsity(0.75, begin=2, end=8, every=2)


def by_hand() -> tuple[list[Array], Array]:
    """Gradient descent in which whole hidden values are pruned; weights, and which are kept."""
    weights, kept, step = first_weights(), np.ones(HIDDEN, bool), 0
    for _ in range(EPOCHS):
        for start in range(0, len(X), BATCH):
            found = gradients(weights, X[start : start + BATCH], Y[start : start + BATCH])
            weights = [w - RATE * g for w, g in zip(weights, masked(found, kept), strict=True)]
            step += 1
            if step in (2, 4, 6, 8):
                part = 1 - (1 - (step - 2) / 6) ** 3
                squares = (weights[0] ** 2).sum(0) + weights[1] ** 2 + (weights[2] ** 2).sum(1)
                scores = np.where(kept, squares, -1)
                gone = np.argsort(scores, kind="stable")[: int(HIDDEN * 0.75 * part + 1e-6)]
                kept = ~np.isin(np.arange(HIDDEN), gone)
            weights = masked(weights, kept)
    return weights, kept


def masked(values: list[Array], kept: Array) -> list[Array]:
    first, first_bias, second, second_bias = values
    return [first * kept, first_bias * kept, second * kept[:, None], second_bias]


def test_pruned_channels_are_those_of_numpy_on_one_and_two_replicas(
    two: tf.distribute.Strategy, one: tf.distribute.Strategy
) -> None:
    expected, kept = by_hand()
    assert kept.sum() == 3
    for strategy in (one, two):
        prune, model = Prune(SCHEDULE, pattern="channels"), network(strategy, sgd())
        for weight, wanted in zip(fitted(model, prune), expected, strict=True):
            np.testing.assert_allclose(weight, wanted, rtol=1e-9, atol=1e-12)
        assert list(prune.sparsity().values()) == [0.75] * 3
        with strategy.scope():
            smaller = cut(model)
        assert smaller.get_layer("hidden").units == 3
        np.testing.assert_allclose(smaller(X), model(X), rtol=0, atol=1e-12)


@pytest.mark.thorough
def test_a_resumed_run_ends_like_an_undisturbed_one(
    two: tf.distribute.Strategy, one: tf.distribute.Strategy, tmp_path: Path
) -> None:
    expected, _ = by_hand()
    for strategy, epochs in ((two, 1), (one, 2), (two, EPOCHS)):
        prune = Prune(SCHEDULE, pattern="channels")
        weights = fitted(network(strategy, sgd()), prune, Checkpoint(tmp_path), epochs=epochs)
    for weight, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-9, atol=1e-12)
    assert list(prune.sparsity().values()) == [0.75] * 3


@pytest.mark.thorough
def test_replicas_that_step_locally_prune_the_same_channels(two: tf.distribute.Strategy) -> None:
    prune, model = Prune(SCHEDULE, pattern="channels"), network(two, sgd(momentum=0.5))
    fitted(model, LocalUpdates(3), prune)
    assert channel_groups(model).groups["hidden"].masked().sum() == 9
    for variable in model.trainable_variables:
        first, other = two.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first.numpy(), other.numpy())


@pytest.mark.parametrize(
    "arguments",
    [{}, {"momentum": 0.875, "use_ema": True}, {"weight_decay": 0.25, "global_clipnorm": 0.5}],
    ids=["plain", "momentum and averages", "decay and clipping"],
)
@pytest.mark.parametrize("scope", ["layer", pytest.param("global", marks=pytest.mark.thorough)])
def test_what_is_tied_is_pruned_together_and_stays_zero(
    one: tf.distribute.Strategy, arguments: dict[str, Any], scope: str
) -> None:
    with one.scope():
        model = with_drawn_weights(residual())
        model.compile(keras.optimizers.SGD(0.01, **arguments), "mse", steps_per_execution=3)
    batch = batch_for(model, rows=12)
    schedule = CubicSparsity(0.5, begin=1, end=5, every=2)
    prune = Prune(schedule, pattern="channels", scope=scope)
    model.fit(batch, np.ones((12, 3)), batch_size=2, epochs=2, callbacks=[prune], verbose=0)
    groups = channel_groups(model).groups
    counts = {name: int(group.masked().sum()) for name, group in groups.items()}
    if scope == "layer":
        assert counts == {"stem": 4, "one_in": 3, "two_in": 3}
    assert sum(counts.values()) == 10
    smaller = cut(model)
    np.testing.assert_allclose(outputs_of(smaller, batch), outputs_of(model, batch), atol=1e-12)


def test_targets_and_keep_name_groups(one: tf.distribute.Strategy) -> None:
    with one.scope():
        model = with_drawn_weights(residual())
        model.compile("sgd", "mse")
    prune = Prune(OneShot(0.5), pattern="channels", targets={"one.*": 0.2}, keep=["stem"])
    model.fit(batch_for(model), np.ones((5, 3)), callbacks=[prune], verbose=0)
    counts = {name: int(g.masked().sum()) for name, g in channel_groups(model).groups.items()}
    assert counts == {"stem": 0, "one_in": 1, "two_in": 3}


def test_one_channel_of_each_group_stays(one: tf.distribute.Strategy) -> None:
    for scope in ("layer", "global"):
        with one.scope():
            model = with_drawn_weights(residual())
            model.compile("sgd", "mse")
        prune = Prune(OneShot(0.95), pattern="channels", scope=scope)
        model.fit(batch_for(model), np.ones((5, 3)), callbacks=[prune], verbose=0)
        counts = {name: int(g.masked().sum()) for name, g in channel_groups(model).groups.items()}
        assert counts == {"stem": 7, "one_in": 5, "two_in": 5}


@pytest.mark.parametrize(
    ("arguments", "final", "message"),
    [
        ({"keep": ["nothing"]}, 0.5, "`keep` must have regular expressions that match groups"),
        ({"targets": {"nothing": 0.5}}, 0.5, "`targets` must have regular expressions"),
        ({"keep": [".*"]}, 0.5, "`model` must have channels that can go"),
        ({}, 0.08, "must prune at least one channel of each group.*'hidden'"),
    ],
)
def test_impossible_arguments_are_refused_when_training_begins(
    one: tf.distribute.Strategy, arguments: dict[str, Any], final: float, message: str
) -> None:
    model = network(one, sgd())
    with pytest.raises(ValueError, match=message):
        fitted(model, Prune(OneShot(final), pattern="channels", **arguments))


def test_frozen_weights_of_a_channel_are_refused(one: tf.distribute.Strategy) -> None:
    with one.scope():
        model = residual()
        model.get_layer("one_in").trainable = False
        model.compile("sgd", "mse")
    prune = Prune(OneShot(0.5), pattern="channels")
    with pytest.raises(ValueError, match=r"'stem'.*'one_in/kernel' is frozen.*keep=\['stem'\]"):
        model.fit(batch_for(model), np.ones((5, 3)), callbacks=[prune], verbose=0)


def test_movement_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match='`score` must be "magnitude" with pattern="channels"'):
        Prune(SCHEDULE, pattern="channels", score="movement")
