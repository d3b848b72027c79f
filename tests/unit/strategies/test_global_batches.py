"""Replica batches: disjoint, complete, in order, with sizes that differ by at most one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from strategies.global_batches import (
    EvenReplicaBatch,
    GlobalBatches,
    ReplicaBatch,
    as_global_batches,
    counted_replica_batches,
    cut_for_replicas,
    keep_rows,
    own_rows,
    replica_batch_bounds,
    replica_batch_spec,
    replica_batches,
)

ENDLESS = tf.data.INFINITE_CARDINALITY


def all_replica_batches(dataset: tf.data.Dataset, num_replicas: int) -> list[Any]:
    """What one worker with all replicas gets."""
    return list(replica_batches(dataset, 0, num_replicas, num_replicas))


def batches(array: Any, size: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(array).batch(size)


@pytest.mark.parametrize("num_replicas", range(1, 10))
def test_every_row_is_used_once_in_order_and_sizes_differ_by_at_most_one(
    num_replicas: int,
) -> None:
    for num_rows in range(41):
        bounds = [replica_batch_bounds(num_rows, r, num_replicas) for r in range(num_replicas)]
        rows = [row for start, stop in bounds for row in range(start, stop)]
        sizes = [stop - start for start, stop in bounds]
        assert rows == list(range(num_rows))
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("num_rows", "num_replicas", "sizes"),
    [
        pytest.param(8, 2, [4, 4], id="even"),
        pytest.param(7, 3, [2, 2, 3], id="the last takes the remainder"),
        pytest.param(8, 3, [2, 3, 3], id="the first goes short"),
        pytest.param(2, 3, [0, 1, 1], id="fewer rows than replicas"),
        pytest.param(0, 2, [0, 0], id="no rows"),
    ],
)
def test_sizes_are_those_worked_out_by_hand(
    num_rows: int, num_replicas: int, sizes: list[int]
) -> None:
    bounds = [replica_batch_bounds(num_rows, r, num_replicas) for r in range(num_replicas)]
    assert [stop - start for start, stop in bounds] == sizes


def test_bounds_of_tensors_are_the_bounds_of_integers() -> None:
    for replica in range(4):
        start, stop = replica_batch_bounds(
            tf.constant(11, tf.int64), tf.constant(replica, tf.int64), 4
        )
        assert (int(start), int(stop)) == replica_batch_bounds(11, replica, 4)


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 5])
def test_replica_batches_joined_are_the_global_batch(num_replicas: int) -> None:
    rows = np.arange(22).reshape(11, 2)
    replica_batches = all_replica_batches(batches(rows, 4), num_replicas)
    assert len(replica_batches) == 3 * num_replicas
    steps = [
        replica_batches[i : i + num_replicas] for i in range(0, len(replica_batches), num_replicas)
    ]
    for step, first in zip(steps, (0, 4, 8), strict=True):
        np.testing.assert_array_equal(np.concatenate(step), rows[first : first + 4])


@pytest.mark.parametrize("num_workers", [2, 3])
def test_several_workers_divide_like_one_worker(num_workers: int) -> None:
    dataset, each = batches(np.arange(23), 7), 2
    num_replicas = num_workers * each
    expected = [
        replica_batch.numpy().tolist()
        for replica_batch in all_replica_batches(dataset, num_replicas)
    ]
    found = [
        [
            replica_batch.numpy().tolist()
            for replica_batch in replica_batches(dataset, worker * each, each, num_replicas)
        ]
        for worker in range(num_workers)
    ]
    steps = len(expected) // num_replicas
    assert expected == [
        replica_batch
        for step in range(steps)
        for worker in found
        for replica_batch in worker[step * each : (step + 1) * each]
    ]


@pytest.mark.parametrize(
    "structure",
    [
        pytest.param(lambda a, b: a, id="one tensor"),
        pytest.param(lambda a, b: (a,), id="tuple of one"),
        pytest.param(lambda a, b: (a, b), id="tuple"),
        pytest.param(lambda a, b: {"a": a, "b": b}, id="dict"),
        pytest.param(lambda a, b: ({"a": a, "n": (b, a)}, b), id="nested"),
    ],
)
def test_structure_survives_and_every_part_is_divided_the_same(
    structure: Callable[[Any, Any], Any],
) -> None:
    a, b = np.arange(5), np.arange(15.0).reshape(5, 3)
    dataset = batches(structure(a, b), 5)
    low, high = all_replica_batches(dataset, 2)
    for replica_batch, rows in ((low, slice(0, 2)), (high, slice(2, 5))):
        expected = structure(a[rows], b[rows])
        tf.nest.assert_same_structure(replica_batch, expected)
        for found, wanted in zip(
            tf.nest.flatten(replica_batch), tf.nest.flatten(expected), strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


def test_strings_are_divided_like_numbers() -> None:
    low, high = all_replica_batches(batches([b"a", b"bb", b"ccc"], 3), 2)
    assert (low.numpy().tolist(), high.numpy().tolist()) == ([b"a"], [b"bb", b"ccc"])


def test_ragged_rows_keep_their_lengths() -> None:
    ragged = tf.ragged.constant([[1], [], [2, 3], [4], [5, 6, 7]])
    dataset = tf.data.Dataset.from_tensors((ragged, tf.range(5)))
    replica_batches = all_replica_batches(dataset, 3)
    assert [replica_batch.to_list() for replica_batch, _ in replica_batches] == [
        [[1]],
        [[], [2, 3]],
        [[4], [5, 6, 7]],
    ]
    assert [y.numpy().tolist() for _, y in replica_batches] == [[0], [1, 2], [3, 4]]


def test_sparse_rows_keep_their_places() -> None:
    dense = np.array([[0, 1], [2, 0], [0, 0], [3, 4], [0, 5]])
    replica_batches = all_replica_batches(
        tf.data.Dataset.from_tensors(tf.sparse.from_dense(dense)), 2
    )
    low, high = (tf.sparse.to_dense(replica_batch).numpy() for replica_batch in replica_batches)
    np.testing.assert_array_equal(low, dense[:2])
    np.testing.assert_array_equal(high, dense[2:])


def test_fewer_rows_than_replicas_leave_empty_replica_batches() -> None:
    replica_batches = all_replica_batches(batches(np.ones([1, 4]), 2), 3)
    assert [replica_batch.shape.as_list() for replica_batch in replica_batches] == [
        [0, 4],
        [0, 4],
        [1, 4],
    ]


def test_optional_parts_mean_none_and_are_kept() -> None:
    nothing = tf.experimental.Optional.empty(tf.TensorSpec([], tf.float32))
    dataset = batches(np.arange(4), 4).map(lambda rows: (rows, nothing))
    for replica_batch, (rows, optional) in enumerate(all_replica_batches(dataset, 2)):
        assert rows.numpy().tolist() == [2 * replica_batch, 2 * replica_batch + 1]
        assert not optional.has_value()


def test_an_optional_before_the_tensors_does_not_hide_the_rows() -> None:
    nothing = tf.experimental.Optional.empty(tf.TensorSpec([], tf.float32))
    dataset = batches(np.arange(4), 4).map(lambda rows: (nothing, rows))
    assert [rows.shape[0] for _, rows in all_replica_batches(dataset, 2)] == [2, 2]


def test_a_batch_of_no_tensor_is_refused() -> None:
    nothing = tf.experimental.Optional.empty(tf.TensorSpec([], tf.float32))
    dataset = tf.data.Dataset.range(2).map(lambda _: (nothing,))
    with pytest.raises(ValueError, match="at least one tensor whose first dimension is the exampl"):
        replica_batches(dataset, 0, 2, 2)


def test_a_dataset_of_single_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="examples"):
        replica_batches(tf.data.Dataset.range(4), 0, 2, 2)


def test_shapes_stay_static_if_the_batch_is_static_and_divisible() -> None:
    rows = np.zeros([12, 3])
    even = tf.data.Dataset.from_tensor_slices(rows).batch(6, drop_remainder=True)
    assert replica_batches(even, 0, 2, 2).element_spec.shape.as_list() == [3, 3]
    assert replica_batches(even, 0, 1, 4).element_spec.shape.as_list() == [None, 3]
    assert replica_batches(batches(rows, 6), 0, 2, 2).element_spec.shape.as_list() == [None, 3]


def test_endless_stays_endless_and_finite_stays_finite() -> None:
    dataset = batches(np.arange(6), 3)
    assert replica_batches(dataset.repeat(), 0, 2, 2).cardinality() == ENDLESS
    assert replica_batches(dataset, 0, 2, 2).cardinality() != ENDLESS
    assert counted_replica_batches(dataset.repeat(), 0, 2, 2).cardinality() == ENDLESS


def test_one_replica_reads_the_dataset_itself() -> None:
    dataset = batches(np.arange(6), 4)
    assert replica_batches(dataset, 0, 1, 1) is dataset


def mixed(rows: int, *, size: int, drop_remainder: bool) -> tf.data.Dataset:
    """Batches of dense, ragged and sparse parts, a scalar and a None."""
    dense = tf.data.Dataset.from_tensor_slices(np.arange(2.0 * rows).reshape(rows, 2))
    ragged = tf.data.Dataset.from_tensor_slices(tf.ragged.range(tf.range(rows)))
    sparse = tf.data.Dataset.from_tensor_slices(tf.sparse.from_dense(np.eye(rows)))
    both = tf.data.Dataset.zip({"d": dense, "r": ragged, "s": sparse})
    batched = both.batch(size, drop_remainder=drop_remainder)
    return batched.map(lambda x: (x, tf.constant(3), None))


@pytest.mark.parametrize("drop_remainder", [False, True])
@pytest.mark.parametrize("num_replicas", [2, 3])
def test_a_step_divides_like_a_dataset(num_replicas: int, drop_remainder: bool) -> None:
    dataset = mixed(11, size=4, drop_remainder=drop_remainder)
    expected = counted_replica_batches(dataset, 1, num_replicas - 1, num_replicas)
    spec, known = replica_batch_spec(dataset.element_spec, num_replicas), expected.element_spec.data
    assert spec[0]["s"].shape.as_list() == [None, 11]  # a sliced tensor's columns are forgotten
    assert [spec[0][key] for key in "dr"] == [known[0][key] for key in "dr"]
    assert spec[1:] == known[1:]

    @tf.function(autograph=False)
    def step(stream: Any) -> Any:
        return cut_for_replicas(next(stream), 1, num_replicas - 1, num_replicas)

    traced, eager = (iter(as_global_batches(dataset)) for _ in range(2))
    for _ in range(len(dataset)):
        cut = cut_for_replicas(next(eager), 1, num_replicas - 1, num_replicas)
        steps = zip(step(traced), cut, expected.take(num_replicas - 1), strict=True)
        expected = expected.skip(num_replicas - 1)
        for in_graph, by_hand, from_dataset in steps:
            parts = [tf.nest.flatten(s, expand_composites=True) for s in (in_graph, by_hand)]
            right = tf.nest.flatten(from_dataset, expand_composites=True)
            for values in parts:
                for value, other in zip(values, right, strict=True):
                    if other is not None:
                        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize(
    ("rows", "kinds"),
    [
        pytest.param(6, [(EvenReplicaBatch, 3)] * 2, id="even"),
        pytest.param(5, [(ReplicaBatch, None)] * 2, id="uneven"),
        pytest.param(1, [(ReplicaBatch, None)] * 2, id="one row, of which both are given a copy"),
    ],
)
def test_a_known_batch_is_even_if_it_is_divisible(rows: int, kinds: list[Any]) -> None:
    dataset = tf.data.Dataset.from_tensors(np.zeros([rows, 3]))
    found: list[Any] = []

    @tf.function(autograph=False)
    def step(stream: Any) -> Any:
        replica_batches = cut_for_replicas(next(stream), 0, 2, 2)
        found.extend(
            (type(replica_batch), replica_batch.data.shape[0]) for replica_batch in replica_batches
        )
        return replica_batches

    step(iter(as_global_batches(dataset)))
    assert found == kinds


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_keep_rows_keeps_the_first_rows_of_every_part(rows: int) -> None:
    ragged = tf.ragged.constant([[1], [2, 3], []])
    sparse = tf.sparse.from_dense([[0, 1], [2, 0], [3, 4]])
    batch = {"d": tf.reshape(tf.range(6), [3, 2]), "r": ragged, "s": sparse}
    kept = keep_rows(batch, tf.constant(rows, tf.int64))
    assert kept["d"].numpy().tolist() == [[0, 1], [2, 3], [4, 5]][:rows]
    assert kept["r"].to_list() == [[1], [2, 3], []][:rows]
    assert tf.sparse.to_dense(kept["s"]).numpy().tolist() == [[0, 1], [2, 0], [3, 4]][:rows]


def minus_the_largest(batch: tf.Tensor) -> tf.Tensor:
    """Fails on an empty batch: it reads the last row."""
    return batch - batch[-1]


def test_the_function_of_these_tests_fails_on_an_empty_batch() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        minus_the_largest(tf.zeros([0]))


@pytest.mark.parametrize(
    ("num_rows", "num_replicas", "expected"),
    [
        pytest.param(5, 2, [[-1, 0], [-2, -1, 0]], id="each replica batch is mapped by itself"),
        pytest.param(1, 3, [[], [], [0]], id="empty replica batches"),
        pytest.param(2, 3, [[], [0], [0]], id="an empty replica batch first"),
    ],
)
def test_a_mapped_function_never_gets_an_empty_batch(
    num_rows: int, num_replicas: int, expected: list[list[int]]
) -> None:
    dataset = batches(np.arange(num_rows), num_rows)
    divided = counted_replica_batches(dataset, 0, num_replicas, num_replicas, minus_the_largest)
    assert [own_rows(batch).numpy().tolist() for batch in divided] == expected


def test_mapped_replica_batches_are_in_the_order_of_the_replicas() -> None:
    divided = counted_replica_batches(batches(np.arange(60), 6), 0, 3, 3, tf.identity)
    assert np.concatenate([own_rows(batch) for batch in divided]).tolist() == list(range(60))


def test_other_objects_are_not_sources_of_global_batches() -> None:
    assert not isinstance(batches(np.arange(3), 3), GlobalBatches)
    assert not isinstance(np.arange(3), GlobalBatches)
