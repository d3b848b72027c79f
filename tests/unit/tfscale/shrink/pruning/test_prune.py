"""Pruned training against NumPy: on one device, on two replicas, and with what a step may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.shrink.pruning.pruned_by_hand import (
    Array,
    ByHand,
    X,
    Y,
    first_weights,
    fitted,
    network,
    sgd,
)
from tfscale.callbacks import LocalUpdates, Microbatches, Stability
from tfscale.shrink import ConstantSparsity, CubicSparsity, OneShot, Prune

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("two", "in_double_precision")]

SCHEDULE = CubicSparsity(0.75, begin=2, end=8, every=2)


def masks_of(prune: Prune) -> list[Array]:
    return [array for name, array in prune.state_arrays().items() if name.startswith("mask")]


def assert_like(prune: Prune, weights: list[Array], expected: ByHand) -> None:
    """Weights to 1e-9, masks equal on every replica, and every masked weight zero."""
    for mask, wanted in zip(masks_of(prune), expected.masks.values(), strict=True):
        np.testing.assert_array_equal(mask, wanted)
    for weight, wanted in zip(weights, expected.weights, strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-9, atol=1e-12)
    strategy = prune.model.distribute_strategy
    for variable, mask in zip(prune.model.trainable_variables[::2], masks_of(prune), strict=True):
        for copy in strategy.experimental_local_results(variable.value):
            assert np.all(copy.numpy()[~mask] == 0)
            np.testing.assert_allclose(copy.numpy(), weights[0 if mask.shape[0] == 8 else 2])


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any], dict[str, Any]]] = {
    "momentum": (sgd(momentum=0.875), {}, {"momentum": 0.875}),
    "execution": (sgd(), {"steps_per_execution": 8}, {}),
    "clipping": (
        sgd(momentum=0.875, global_clipnorm=0.125),
        {},
        {"momentum": 0.875, "clip": 0.125},
    ),
    "accumulation": (
        sgd(gradient_accumulation_steps=2, momentum=0.5),
        {},
        {"accumulated": 2, "momentum": 0.5},
    ),
    "decay": (sgd(weight_decay=0.25), {}, {"decay": 0.25}),
    "loss scaling": (
        lambda: keras.optimizers.LossScaleOptimizer(sgd(momentum=0.5)()),
        {},
        {"momentum": 0.5},
    ),
    "eager": (sgd(), {"run_eagerly": True}, {}),
    "compiled": (sgd(), {"jit_compile": True}, {}),
}


SHORT = ("clipping", "execution", "accumulation")


@pytest.mark.parametrize(
    "case",
    [*SHORT, *(pytest.param(c, marks=pytest.mark.thorough) for c in CASES if c not in SHORT)],
)
def test_pruned_training_is_that_of_numpy(
    two: tf.distribute.Strategy, one: tf.distribute.Strategy, case: str
) -> None:
    optimizer, compiling, by_hand = CASES[case]
    expected = ByHand(**by_hand).train()
    assert [mask.mean() for mask in expected.masks.values()] == [0.25, 0.25]
    for strategy in (one,) if case == "compiled" else (one, two):
        prune = Prune(SCHEDULE, scope="layer")
        model = network(strategy, optimizer, **compiling)
        assert_like(prune, fitted(model, prune), expected)
        assert list(prune.sparsity().values()) == [0.75, 0.75]


@pytest.mark.parametrize("overwrites", [None, pytest.param(3, marks=pytest.mark.thorough)])
def test_moving_averages_are_pruned_with_the_weights(
    two: tf.distribute.Strategy, overwrites: int | None
) -> None:
    optimizer = sgd(use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=overwrites)
    prune, model = Prune(SCHEDULE, scope="layer"), network(two, optimizer)
    fitted(model, prune)
    averages = [v.numpy() for v in model.optimizer.variables if "average" in v.path][::2]
    for average, mask in zip(averages, masks_of(prune), strict=True):
        assert mask.mean() == 0.25
        assert np.all(average[~mask] == 0)
        assert np.all(average[mask] != 0)
    if overwrites is None:
        expected = ByHand(average=0.75).train()
        np.testing.assert_allclose(averages[0], expected.averages[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "by_hand"),
    [
        pytest.param({}, {"is_global": True}, marks=pytest.mark.thorough),
        pytest.param(
            {"score": "movement", "scope": "layer"}, {"moves": True}, marks=pytest.mark.thorough
        ),
        ({"score": "movement"}, {"moves": True, "is_global": True}),
    ],
    ids=["global", "movement", "global movement"],
)
def test_scores_are_compared_as_in_numpy(
    two: tf.distribute.Strategy, arguments: dict[str, Any], by_hand: dict[str, Any]
) -> None:
    expected = ByHand(**by_hand).train()
    prune = Prune(SCHEDULE, **arguments)
    assert_like(prune, fitted(network(two, sgd()), prune), expected)


@pytest.mark.thorough
def test_movement_is_that_of_an_unscaled_loss(one: tf.distribute.Strategy) -> None:
    expected = ByHand(moves=True, is_global=True).train()
    for optimizer in (
        sgd(loss_scale_factor=8.0),
        lambda: keras.optimizers.LossScaleOptimizer(sgd()(), dynamic_growth_steps=3),
    ):
        prune = Prune(SCHEDULE, score="movement", scope="global")
        assert_like(prune, fitted(network(one, optimizer), prune), expected)
        moved = [prune.state_arrays()[f"movement/{i}"] for i in range(2)]
        for found, k in zip(moved, expected.masks, strict=True):
            np.testing.assert_allclose(found, expected.moved[k], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("order", "moves"),
    [
        ("after", True),
        pytest.param("after", False, marks=pytest.mark.thorough),
        pytest.param("before", False, marks=pytest.mark.thorough),
        pytest.param("before", True, marks=pytest.mark.thorough),
    ],
)
def test_replicas_that_step_locally_prune_when_they_are_averaged(
    two: tf.distribute.Strategy, order: str, moves: bool
) -> None:
    expected = ByHand(replicas=2, round_steps=3, momentum=0.5, moves=moves).train()
    prune = Prune(SCHEDULE, scope="layer", score="movement" if moves else "magnitude")
    callbacks = [LocalUpdates(3), prune] if order == "after" else [prune, LocalUpdates(3)]
    assert_like(prune, fitted(network(two, sgd(momentum=0.5)), *callbacks), expected)


@pytest.mark.thorough
def test_microbatches_are_one_step(two: tf.distribute.Strategy) -> None:
    prune = Prune(SCHEDULE, scope="layer")
    weights = fitted(network(two, sgd()), Microbatches(2), prune)
    assert_like(prune, weights, ByHand().train())


@pytest.mark.thorough
def test_several_fits_are_one_training(two: tf.distribute.Strategy) -> None:
    prune, model = Prune(SCHEDULE, scope="layer"), network(two, sgd(momentum=0.5))
    fitted(model, prune, epochs=1)
    assert_like(prune, fitted(model, prune, epochs=3), ByHand(momentum=0.5).train())


@pytest.mark.thorough
def test_masks_outlive_the_optimizer(two: tf.distribute.Strategy) -> None:
    prune, model = Prune(SCHEDULE, scope="layer"), network(two, sgd())
    fitted(model, prune, epochs=1)
    with two.scope():
        model.compile(sgd()(), "mse")
    assert_like(prune, fitted(model, prune, epochs=3), ByHand().train())


@pytest.mark.thorough
def test_without_the_callback_zeros_move_again(one: tf.distribute.Strategy) -> None:
    prune, model = Prune(OneShot(0.5), scope="layer"), network(one, sgd())
    weights = fitted(model, prune, epochs=1)
    assert np.mean(weights[0] == 0) == 0.5
    assert np.mean(fitted(model, epochs=1)[0] == 0) == 0


def test_one_shot_prunes_the_trained_weights_before_the_first_step(
    one: tf.distribute.Strategy,
) -> None:
    prune = Prune(OneShot(0.5), scope="layer")
    fitted(network(one, sgd()), prune)
    for mask, first in zip(masks_of(prune), first_weights()[::2], strict=True):
        np.testing.assert_array_equal(mask, np.abs(first) > np.median(np.abs(first)))


@pytest.mark.thorough
def test_a_constant_sparsity_begins_after_its_step(one: tf.distribute.Strategy) -> None:
    prune = Prune(ConstantSparsity(0.5, begin=6))
    model = network(one, sgd(), steps_per_execution=4)
    model.fit(np.ones([8, 8]), np.ones([8, 4]), batch_size=1, callbacks=[prune], verbose=0)
    history = model.fit(
        np.ones([5, 8]), np.ones([5, 4]), batch_size=1, callbacks=[prune], verbose=0
    ).history
    assert history["sparsity"] == [0.5]
    assert prune.steps == 13


@pytest.mark.thorough
def test_a_schedule_that_is_cut_short_is_announced(
    one: tf.distribute.Strategy, capfd: pytest.CaptureFixture[str]
) -> None:
    fitted(network(one, sgd()), Prune(SCHEDULE, scope="layer"), epochs=1)
    said = "".join(capfd.readouterr())
    assert "WARNING: Prune has seen 4 steps, and its schedule ends after 8" in said


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("action", "trained_on"), [("skip", (0, 1, 2, 4)), ("roll_back", (0, 1, 4))]
)
def test_a_step_that_is_undone_changes_no_mask(
    two: tf.distribute.Strategy, action: str, trained_on: tuple[int, ...]
) -> None:
    """Of five batches the fourth is bad; the state after the second is the newest that is kept."""
    x, y = (np.tile(rows[:21], (2, 1))[:35].reshape(5, 7, -1) for rows in (X, Y))
    results = []
    for batches in (range(5), trained_on):
        x_of_run = np.array(x[list(batches)])
        prune = Prune(CubicSparsity(0.75, begin=1, end=5, every=1))
        watch = Stability(on_trouble=action, factor=None, keep_every=2, rate_factor=1.0)
        if len(batches) == 5:
            x_of_run[3] = np.nan
        model = network(two, sgd())
        given = {"batch_size": 7, "shuffle": False, "verbose": 0, "callbacks": [prune, watch]}
        model.fit(x_of_run.reshape(-1, 8), y[list(batches)].reshape(-1, 4), **given)
        assert len(watch.events) == (len(batches) == 5)
        assert prune.steps == len(trained_on)
        results.append([*model.get_weights(), *masks_of(prune)])
    for undone, never_taken in zip(*results, strict=True):
        np.testing.assert_array_equal(undone, never_taken)
