"""What each replica has of divided variables: hand-counted, and complete."""

from __future__ import annotations

import math

import keras
import pytest

from tfscale.plan.memory.cuts import bounds_by_path, shares


def variables(*shapes: tuple[int, ...], constraint: object = None) -> list[keras.Variable]:
    found = [keras.Variable(keras.ops.zeros(shape), name=f"v{i}") for i, shape in enumerate(shapes)]
    for variable in found:
        variable.constraint = constraint
    return found


def test_an_elementwise_optimizer_cuts_the_largest_axis_into_parts_as_equal_as_possible() -> None:
    bounds = bounds_by_path(keras.optimizers.Adam(), variables((3, 8), (5,), ()), 3)
    assert list(bounds.values()) == [(0, 2, 5, 8), (0, 1, 3, 5), (0, 0, 0, 1)]


@pytest.mark.parametrize("name", ["Lamb", "Adafactor", "Muon"])
def test_other_optimizers_give_whole_variables_to_the_replica_with_least(name: str) -> None:
    optimizer = getattr(keras.optimizers, name)()
    bounds = bounds_by_path(optimizer, variables((2,), (9,), (4, 2)), 2)
    # 9 to replica 0, 8 to replica 1, 2 to replica 1
    assert list(bounds.values()) == [(0, 0, 2), (0, 9, 9), (0, 0, 4)]


def test_a_constraint_keeps_a_variable_whole_and_a_loss_scale_changes_nothing() -> None:
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    assert bounds_by_path(scaled, variables((4,)), 2) == {"v0": (0, 2, 4)}
    constrained = variables((4,), constraint=keras.constraints.UnitNorm())
    assert bounds_by_path(scaled, constrained, 2) == {"v0": (0, 4, 4)}


def test_shares_of_slots_follow_their_parameters() -> None:
    bounds = {"w": (0, 2, 5, 8), "row": (0, 0, 4, 4)}
    shapes = {"w": (3, 8), "row": (4, 4)}
    listed = [
        ("w", (3, 8), 96),  # like its parameter: 2, 3 and 3 of 8 rows
        ("row", (4,), 16),  # of another shape: where its parameter is
        ("", (), 8),  # a counter: everywhere
    ]
    assert shares(listed, bounds, shapes, 3) == [24 + 8, 36 + 16 + 8, 36 + 8]


@pytest.mark.parametrize("replicas", [1, 2, 3, 7, 64])
def test_shares_together_are_the_whole(replicas: int) -> None:
    weights = variables((10, 3), (7,), (2, 5, 4))
    bounds = bounds_by_path(keras.optimizers.Adam(), weights, replicas)
    shapes = {w.path: tuple(w.shape) for w in weights}
    listed = [(path, shape, 4 * math.prod(shape)) for path, shape in shapes.items()]
    assert sum(shares(listed, bounds, shapes, replicas)) == 4 * 77
