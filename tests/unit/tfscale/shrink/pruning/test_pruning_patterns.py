"""Patterns and schedules against NumPy, and what is refused before a model trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfscale.shrink import ConstantSparsity, CubicSparsity, OneShot, Prune
from tfscale.shrink.pruning.mask_rule import PrunedWeight, PruningRule
from tfscale.shrink.pruning.patterns import Axes, Pattern

Array = np.ndarray[Any, Any]

DENSE = Axes((), (0,), (1,))
CONVOLUTION = Axes((0, 1), (2,), (3,))
TRANSPOSED = Axes((0, 1), (3,), (2,))
ATTENTION = Axes((), (0, 1), (2,))


def pruned(
    weight: Array, axes: Axes, pattern: str, sparsity: float, mask: Array | None = None
) -> Array:
    """The mask of one weight after pruning once."""
    variable = tf.Variable(weight)
    rule = PruningRule(
        OneShot(sparsity),
        Pattern.named(pattern),
        [PrunedWeight(variable, axes, sparsity)],
        is_global=False,
    )
    earlier = np.ones(weight.shape, bool) if mask is None else mask
    now = tf.constant(0, tf.int64)
    (found,) = rule.masks(now, [variable.value()], [], [tf.constant(earlier)])
    kept: Array = found.numpy()
    return kept


def drawn(*shape: int) -> Array:
    return np.random.default_rng(4).normal(size=shape)


@pytest.mark.parametrize(
    ("shape", "axes", "along"),
    [
        ((8, 6), DENSE, lambda w: w.T.reshape(-1, 4)),
        ((3, 3, 8, 5), CONVOLUTION, lambda w: np.moveaxis(w, 2, -1).reshape(-1, 4)),
        ((3, 3, 5, 8), TRANSPOSED, lambda w: w.reshape(-1, 4)),
        ((8, 3, 5), Axes((2,), (0,), (1,)), lambda w: np.moveaxis(w, 0, -1).reshape(-1, 4)),
        ((3, 4, 5), ATTENTION, lambda w: w.reshape(12, 5).T.reshape(-1, 4)),
    ],
    ids=["dense", "convolution", "transposed", "alike", "attention"],
)
def test_two_of_every_four_inputs_are_kept(shape: Any, axes: Axes, along: Any) -> None:
    weight = drawn(*shape)
    groups, kept = along(np.abs(weight)), along(pruned(weight, axes, "2:4", 0.5))
    assert kept.sum(axis=1).tolist() == [2] * len(kept)
    np.testing.assert_array_equal(kept, groups >= np.sort(groups, axis=1)[:, [2]])


def test_before_its_end_a_group_has_at_most_its_zeros() -> None:
    weight = drawn(16, 10)
    half = pruned(weight, DENSE, "2:4", 0.25)
    groups = half.T.reshape(-1, 4)
    assert half.mean() == 0.75
    assert set(groups.sum(axis=1)) == {2, 3, 4}
    whole = pruned(weight, DENSE, "2:4", 0.5, half)
    assert not np.any(whole & ~half)
    assert np.all(whole.T.reshape(-1, 4).sum(axis=1) == 2)


@pytest.mark.parametrize(
    ("axes", "shape"), [(DENSE, (8, 6)), (TRANSPOSED, (1, 1, 6, 8))], ids=["dense", "transposed"]
)
def test_blocks_with_the_smallest_sums_are_pruned_whole(axes: Axes, shape: Any) -> None:
    weight = drawn(*shape)
    matrix = weight.reshape(6, 8).T if axes is TRANSPOSED else weight
    found = pruned(weight, axes, "4x2", 0.5)
    mask = found.reshape(6, 8).T if axes is TRANSPOSED else found
    sums = np.abs(matrix).reshape(2, 4, 3, 2).sum(axis=(1, 3))
    wanted = sums > np.sort(sums.ravel())[2]
    np.testing.assert_array_equal(mask, np.kron(wanted, np.ones((4, 2), bool)))


@pytest.mark.parametrize(
    ("size", "sparsity", "zeros"),
    [
        (100, 0.29, 29),  # 0.29 * 100 is below 29 in float64
        (10, 0.7, 7),
        (7, 0.8, 5),  # 5.6: the largest number that is not more
        (2, 0.8, 1),
        (1, 0.99, 0),
    ],
)
def test_the_zeros_are_the_floor_of_the_fraction(size: int, sparsity: float, zeros: int) -> None:
    assert np.sum(~pruned(drawn(size, 1), DENSE, "unstructured", sparsity)) == zeros


def test_of_equal_weights_the_first_are_pruned_and_pruned_ones_stay() -> None:
    equal = np.ones((1, 6))
    first = pruned(equal, DENSE, "unstructured", 0.5)
    assert first.tolist() == [[False] * 3 + [True] * 3]
    earlier = np.array([[True, True, True, True, True, False]])
    second = pruned(equal, DENSE, "unstructured", 0.5, earlier)
    assert second.tolist() == [[False, False, True, True, True, False]]
    zeros = np.array([[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]])
    assert pruned(zeros, DENSE, "unstructured", 0.5, earlier).sum() == 3


def test_the_cubic_schedule_is_that_of_the_paper() -> None:
    schedule = CubicSparsity(0.9, begin=100, end=500, every=50)
    steps = np.arange(100, 501, 50)
    cubic = 0.9 + (0 - 0.9) * (1 - (steps - 100) / 400) ** 3  # equation 1 of arXiv:1710.01878
    assert [schedule(step) for step in steps.tolist()] == pytest.approx(cubic)
    assert list(schedule.changes()) == steps[1:].tolist()
    assert [schedule(step) for step in (0, 100, 149, 501)] == pytest.approx([0, 0, 0, 0.9])


WRONG: Any = {"number": 0.8, "list": ["a"], "numbers": [3]}


class Falling:
    final = 0.5

    def changes(self) -> list[int]:
        return [1, 2]

    def __call__(self, step: int) -> float:
        return 0.7 if step == 1 else 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CubicSparsity(0.8, begin=5, end=5), "`end` must be above `begin`. Received: end"),
        (lambda: CubicSparsity(0.8, end=250, every=100), r"`every` must divide .* Pass end=300"),
        (lambda: CubicSparsity(80, end=100), "`final` must be above 0 and below 1"),
        (lambda: ConstantSparsity(0.8, begin=0), "`begin` .*OneShot"),
        (lambda: OneShot(1.0), "`final` must be above 0 and below 1"),
        (
            lambda: Prune(WRONG["number"]),
            "`schedule` must be a .* schedule=0.8",
        ),
        (lambda: Prune(Falling()), "sparsities that do not fall"),
        (lambda: Prune(OneShot(0.5), pattern="4:2"), "`pattern` must be .* pattern='4:2'"),
        (lambda: Prune(OneShot(0.5), pattern="1x1"), "`pattern` must be"),
        (lambda: Prune(OneShot(0.8), pattern="2:4"), "must be 0.5 with pattern='2:4'.*Pass 0.5"),
        (lambda: Prune(OneShot(0.8), score="movement"), '`schedule` must not .* score="movement"'),
        (lambda: Prune(OneShot(0.8), scope="model"), "`scope` must be one of layer, global"),
        (
            lambda: Prune(OneShot(0.8), scope="global", targets={"a": 0.5}),
            '`targets` must be None with scope="global"',
        ),
        (lambda: Prune(OneShot(0.8), targets=WRONG["list"]), "`targets` must map"),
        (lambda: Prune(OneShot(0.8), targets={"a": 2}), r"`targets\['a'\]` must be above 0"),
        (lambda: Prune(OneShot(0.8), targets={"(": 0.5}), "`targets` must contain regular"),
        (lambda: Prune(OneShot(0.8), keep="head"), "`keep` must be a sequence"),
        (
            lambda: Prune(OneShot(0.8), keep=WRONG["numbers"]),
            "`keep` must contain regular",
        ),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("arguments", "scope"),
    [
        ({}, "global"),
        ({"pattern": "4x1"}, "global"),
        ({"pattern": "2:4"}, "layer"),
        ({"pattern": "channels"}, "layer"),
        ({"targets": {"head": 0.25}}, "layer"),
        ({"scope": "layer"}, "layer"),
        ({"pattern": "channels", "scope": "global"}, "global"),
    ],
)
def test_single_weights_and_blocks_are_compared_over_layers_by_default(
    arguments: Any, scope: str
) -> None:
    assert Prune(OneShot(0.5), **arguments).scope == scope
