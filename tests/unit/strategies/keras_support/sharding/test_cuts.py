"""How variables are divided, against NumPy."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from strategies.keras_support.sharding.cuts import Cut, by_rows, cuts_for, is_elementwise, owned

SHAPES = [(), (1,), (2,), (7,), (3, 8), (8, 3), (4, 4), (2, 1, 9), (1, 1), (0,), (0, 5), (3, 0)]
REPLICAS = [1, 2, 3, 4]
MIB = 2**20


def cuts_of(shape: tuple[int, ...], replicas: int) -> list[Cut]:
    return [by_rows(shape, replicas), *(owned(shape, r, replicas) for r in range(replicas))]


def array(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape, dtype=int), dtype="float64").reshape(shape)


@pytest.mark.parametrize("replicas", REPLICAS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_parts_of_all_replicas_make_the_whole(shape: tuple[int, ...], replicas: int) -> None:
    whole = array(shape)
    for cut in cuts_of(shape, replicas):
        parts = [cut.take(whole, r) for r in range(replicas)]
        tensors = [cut.take(tf.constant(whole), r) for r in range(replicas)]
        for r in range(replicas):
            np.testing.assert_array_equal(tensors[r], parts[r])
            assert parts[r].shape == cut.part_shape(r)
            assert parts[r].size == cut.part_size(r)
        assert sum(part.size for part in parts) == whole.size
        np.testing.assert_array_equal(cut.joined(tensors), whole)
        if cut.is_even:
            flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
            np.testing.assert_array_equal(cut.stacked(flat), whole)


@pytest.mark.parametrize(
    ("shape", "replicas", "is_even"),
    [((4, 4), 4, True), ((3, 8), 2, True), ((7,), 2, False), ((), 2, False), ((2,), 4, False)],
    ids=str,
)
def test_a_division_is_even_if_all_parts_have_one_shape(
    shape: tuple[int, ...], replicas: int, is_even: bool
) -> None:
    assert by_rows(shape, replicas).is_even is is_even


@pytest.mark.parametrize("replicas", REPLICAS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_parts_by_rows_are_those_of_an_array_split(shape: tuple[int, ...], replicas: int) -> None:
    cut = by_rows(shape, replicas)
    largest = max(shape, default=1)
    assert not shape or (shape[cut.axis] == largest and largest not in shape[: cut.axis])
    rows = [cut.rows(r) for r in range(replicas)]
    sizes = [len(part) for part in np.array_split(np.arange(largest), replicas)]
    assert sorted(rows) == sorted(sizes)
    assert max(rows) - min(rows) <= 1


@pytest.mark.parametrize("replicas", REPLICAS)
@pytest.mark.parametrize("shape", [(2, 3), (9, 2), (3, 8), (5, 1)], ids=str)
def test_a_part_of_a_lookups_gradient_is_the_part_of_its_sum(
    shape: tuple[int, ...], replicas: int
) -> None:
    indices = np.array([1, 0, 1, shape[0] - 1])
    values = array((4, shape[1])) + 1
    whole = np.zeros(shape)
    np.add.at(whole, indices, values)
    rows = tf.IndexedSlices(tf.constant(values), tf.constant(indices), tf.constant(shape))
    for cut in cuts_of(shape, replicas):
        for r in range(replicas):
            part = tf.convert_to_tensor(cut.take_rows(rows, r))
            np.testing.assert_array_equal(part, cut.take(whole, r))


def test_an_owner_has_everything() -> None:
    cut = owned((3, 2), 1, 3)
    assert [cut.rows(r) for r in range(3)] == [0, 3, 0]
    assert [cut.is_whole(r) for r in range(3)] == [False, True, False]
    assert [cut.part_size(r) for r in range(3)] == [0, 6, 0]


def variables(*shapes: tuple[int, ...], constraint: Any = None) -> list[Any]:
    return [SimpleNamespace(shape=shape, constraint=constraint) for shape in shapes]


def loads(cuts: list[Cut], replicas: int) -> list[int]:
    return [sum(cut.part_size(r) for cut in cuts) for r in range(replicas)]


def test_whole_variables_go_to_the_replica_with_least() -> None:
    lamb = keras.optimizers.Lamb()
    cuts = cuts_for(lamb, variables((7,), (6,), (5,), (4,), (3,), (2,)), 3)
    assert loads(cuts, 3) == [9, 9, 9]
    assert all(any(cut.is_whole(r) for r in range(3)) for cut in cuts)


def test_owners_differ_by_one_variable_at_most() -> None:
    draw = np.random.default_rng(5)
    shapes = [(int(rows), 3) for rows in draw.integers(1, 40, size=30)]
    sizes = loads(cuts_for(keras.optimizers.Muon(), variables(*shapes), 4), 4)
    assert max(sizes) - min(sizes) <= max(3 * rows for rows, _ in shapes)


def test_a_constraint_keeps_a_variable_whole() -> None:
    adam = keras.optimizers.Adam()
    free, bound = variables((4, 4)), variables((4, 4), constraint=keras.constraints.UnitNorm())
    cut, kept = cuts_for(adam, [*free, *bound], 2)
    assert [cut.rows(r) for r in range(2)] == [2, 2]
    assert [kept.rows(r) for r in range(2)] == [4, 0]


class OwnAdam(keras.optimizers.Adam):
    """May look at whole variables, as far as anyone knows."""


def test_only_known_optimizers_are_elementwise() -> None:
    optimizers = keras.optimizers
    assert is_elementwise(optimizers.Adam())
    assert is_elementwise(optimizers.LossScaleOptimizer(optimizers.SGD()))
    assert not is_elementwise(OwnAdam())
    assert not is_elementwise(optimizers.LossScaleOptimizer(optimizers.Lamb()))
    assert not is_elementwise(optimizers.Adafactor())


@pytest.mark.parametrize("shape", [(2048, 1024), (1024, 2048)], ids=["rows", "columns"])
def test_a_part_does_not_keep_the_whole_tensor_in_memory(shape: tuple[int, int]) -> None:
    before = bytes_in_use()
    whole = tf.zeros(shape)
    part = by_rows(shape, 4).take(whole, 1)
    assert bytes_in_use() - before >= 10 * MIB
    del whole
    assert 2 * MIB <= bytes_in_use() - before < 3 * MIB
    assert part.shape.num_elements() == 2 * MIB // 4


def bytes_in_use() -> int:
    """Returns what TensorFlow's allocator has handed out."""
    gc.collect()
    return int(tf.config.experimental.get_memory_info("CPU:0")["current"])
