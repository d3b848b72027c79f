"""Batches of every form: read, cut, permuted and rebuilt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from strategies.batch_parts import Shared
from tfscale.data.shared import shared
from tfscale.verify.batches import (
    RaggedPart,
    SparsePart,
    as_dataset,
    as_float64,
    inputs_of,
    num_rows,
    permuted,
    take_batches,
    with_rows,
)
from tfscale.verify.user_model import WrongUsage

X, Y = np.arange(10.0).reshape(5, 2), np.arange(5)


def sets() -> dict[str, Any]:
    words = tf.ragged.constant([[1, 2], [], [3], [4, 5, 6], [7]])
    dense = np.array([[0, 1, 0], [2, 0, 3], [0, 0, 0], [0, 0, 4], [5, 6, 0]])
    slices = tf.data.Dataset.from_tensor_slices
    return {
        "bare": slices(X).batch(2),
        "pairs": slices((X, Y)).batch(2),
        "none": slices((X, Y)).batch(2).map(lambda x, y: (x, y, None)),
        "none in a dict": slices(X).batch(2).map(lambda x: ({"a": x, "b": None}, x)),
        "ragged": slices((words, Y)).batch(2),
        "sparse": slices((tf.sparse.from_dense(dense), Y)).batch(2),
        "shared": slices(X).batch(2).map(lambda x: ((x, shared(tf.eye(3))), x)),
        "scalar": slices(X).batch(2).map(lambda x: (x, tf.constant(3.0))),
    }


def plain(element: Any) -> Any:
    """Nested lists, for `==`."""
    if isinstance(element, tuple):
        return [plain(part) for part in element]
    if isinstance(element, dict):
        return {name: plain(part) for name, part in element.items()}
    if element is None:
        return None
    if isinstance(element, Shared):
        return ["shared", plain(element.value)]
    if isinstance(element, tf.SparseTensor):
        return ["sparse", tf.sparse.to_dense(element).numpy().tolist()]
    if isinstance(element, tf.RaggedTensor):
        return ["ragged", element.to_list()]
    return element.numpy().tolist()


@pytest.mark.parametrize("name", sets())
def test_a_dataset_survives_the_round_trip_through_arrays(name: str) -> None:
    data = sets()[name]
    again = as_dataset(take_batches(data, 9, 1))
    assert [plain(each) for each in again] == [plain(each) for each in data]
    assert int(again.cardinality()) == 3


@pytest.mark.parametrize("name", sets())
def test_rows_are_permuted_together_and_may_be_repeated(name: str) -> None:
    batch = take_batches(sets()[name], 1, 1)[0]
    (first,) = as_dataset([batch])
    turned = with_rows(batch, [1, 0])
    assert plain(next(iter(as_dataset([with_rows(turned, [1, 0])])))) == plain(first)
    assert num_rows(with_rows(batch, [0, 1, 0])) == 3
    assert num_rows(permuted([batch], 0)[0]) == 2


def test_a_repeated_sparse_row_equals_repeated_dense_rows() -> None:
    dense = np.array([[0, 1, 0], [2, 0, 3], [0, 0, 0]])
    part = SparsePart(np.array([[0, 1], [1, 0], [1, 2]]), np.array([1, 2, 3]), (3, 3))
    taken = with_rows(part, [1, 2, 1, 0])
    found = np.zeros(taken.dense_shape, int)
    found[tuple(taken.indices.T)] = taken.values
    np.testing.assert_array_equal(found, dense[[1, 2, 1, 0]])
    assert taken.indices[:, 0].tolist() == [0, 0, 2, 2, 3]


def test_arrays_are_cut_and_the_partial_batch_is_kept() -> None:
    batches = take_batches((X, Y), 2, 2)
    assert [num_rows(batch) for batch in batches] == [2, 1]
    assert batches[1][1].tolist() == [4]


@pytest.mark.parametrize("data", [X, (X,), (X, None), {"a": X}])
def test_inputs_without_targets_stay_bare_as_in_fit(data: Any) -> None:
    (batch,) = take_batches(data, 1, 5)
    assert not isinstance(batch, tuple)
    assert inputs_of(batch) is batch


def test_a_generator_yields_batches() -> None:
    batches = take_batches(((X[i : i + 2], Y[i : i + 2], None) for i in (0, 2, 4)), 2, 1)
    assert [len(batch) for batch in batches] == [3, 3]
    assert batches[1][0].tolist() == [[4.0, 5.0], [6.0, 7.0]]
    assert batches[0][2] is None


def test_floats_become_float64_and_integers_stay() -> None:
    floats, integers = np.array([1.0], np.float32), np.array([1], np.int32)
    ragged = RaggedPart(floats, (np.array([0, 1]),))
    (found,) = as_float64([(floats, integers, None, ragged)])
    assert [found[0].dtype, found[1].dtype, found[2]] == [np.float64, np.int32, None]
    assert found[3].flat_values.dtype == np.float64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("rows", r"`data` must be arrays: .* Received: a value of type str"),
        ((X, Y[:3]), r"the same number of rows.*\(5, 2\), \(3,\)"),
        (iter(()), r"at least one batch. Received: none"),
        ((object(),), r"must consist of arrays, or sparse or ragged tensors"),
    ],
)
def test_other_data_raise(data: Any, message: str) -> None:
    with pytest.raises(WrongUsage, match=message):
        take_batches(data, 1, 2)
