from __future__ import annotations

import collections
import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfscale.data.sources import ArraySource, StreamSource, arrays, as_source

ROWS = tf.constant([4, 0, 4], tf.int64)
Pair = collections.namedtuple("Pair", ["image", "label"])


def array_source(source: Any) -> ArraySource:
    arrays = as_source(source)
    assert isinstance(arrays, ArraySource)
    return arrays


def taken(source: Any) -> Any:
    """Rows 4, 0 and 4 of `source`, taken inside a graph as a pipeline does."""
    arrays = array_source(source)
    assert arrays.num_examples == 5
    return tf.function(arrays.take)(ROWS)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(10, dtype=np.uint8).reshape(5, 2),
        np.arange(10.0)[::2],
        np.arange(5, dtype=">f4"),  # The byte order of another machine.
        np.arange(5) > 2,
        np.arange(5).astype(complex),
        np.zeros((5, 0)),
    ],
    ids=lambda array: str(array.dtype),
)
def test_rows_are_those_of_the_array(array: np.ndarray) -> None:
    rows = taken(array)
    np.testing.assert_array_equal(rows, array[[4, 0, 4]])
    assert rows.shape == (3, *array.shape[1:])


@pytest.mark.parametrize("dtype", ["U", "S", "O"])
def test_strings_become_tensors_of_strings(dtype: str) -> None:
    rows = taken(np.array(["a", "b", "c", "d", "é"], object).astype("U").astype(object))
    assert rows.numpy().tolist() == ["é".encode(), b"a", "é".encode()]
    ascii_rows = taken(np.array(["a", "b", "c", "d", "e"]).astype(dtype))
    assert ascii_rows.numpy().tolist() == [b"e", b"a", b"e"]


def test_structures_keep_their_shape() -> None:
    array, tensor = np.arange(5), tf.range(5)
    rows = taken({"b": (array, [tensor, array]), "a": Pair(array, tensor)})
    assert isinstance(rows["a"], Pair)
    assert isinstance(rows["b"][1], tuple)
    for leaf in tf.nest.flatten(rows):
        np.testing.assert_array_equal(leaf, [4, 0, 4])


def test_a_list_of_arrays_is_structure_and_not_an_array_of_one_more_dimension() -> None:
    first, second = taken([np.arange(5), -np.arange(5)])
    np.testing.assert_array_equal(first, [4, 0, 4])
    np.testing.assert_array_equal(second, [-4, 0, -4])


def test_ragged_rows_keep_their_lengths() -> None:
    rows = taken(tf.ragged.constant([[1], [], [2, 3], [], [4, 5]]))
    assert rows.to_list() == [[4, 5], [1], [4, 5]]


def test_whatever_numpy_reads_is_an_array() -> None:
    class Column:
        """As a pandas Series or a torch tensor does it."""

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.arange(5, dtype=dtype)

    np.testing.assert_array_equal(taken(Column()), [4, 0, 4])


def test_a_copied_array_may_change_afterwards() -> None:
    array = np.arange(5)
    source = array_source(array)
    array[:] = -1
    np.testing.assert_array_equal(source.take(ROWS), [4, 0, 4])


@pytest.mark.parametrize("dtype", ["<f4", ">i8", "u1"])
def test_a_memmap_gives_the_rows_of_its_file(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "rows.npy", np.arange(10, dtype=dtype).reshape(5, 2))
    memmap = np.load(tmp_path / "rows.npy", mmap_mode="r")
    rows, labels = taken((memmap, np.arange(5)))
    np.testing.assert_array_equal(rows, [[8, 9], [0, 1], [8, 9]])
    np.testing.assert_array_equal(labels, [4, 0, 4])
    assert rows.shape == (3, 2)


def test_a_memmap_is_not_read_into_memory(tmp_path: Path) -> None:
    size = 300 * 2**20
    path = tmp_path / "rows.bin"
    with path.open("wb") as stream:
        stream.truncate(size)  # A hole: it takes no disk and reads as zeros.
    memmap = np.memmap(path, np.uint8, mode="r").reshape(-1, 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = array_source((memmap[1:], np.arange(len(memmap) - 1)))
    rows, _ = source.take(ROWS)
    assert rows.shape == (3, 1024)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < size / 1024 / 3  # kB


def test_an_array_over_the_limit_is_read_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "COPY_LIMIT_BYTES", 39)
    source = array_source((np.arange(5), np.arange(5, dtype=np.uint8), np.array(list("abcde"))))
    assert [type(leaf) is np.ndarray for leaf in source.arrays] == [True, False, False]
    numbers, _, letters = tf.function(source.take)(ROWS)
    np.testing.assert_array_equal(numbers, [4, 0, 4])
    assert letters.numpy().tolist() == [b"e", b"a", b"e"]


def test_a_dataset_is_a_stream_of_as_many_examples_as_it_says() -> None:
    source = as_source(tf.data.Dataset.range(7))
    assert isinstance(source, StreamSource)
    assert source.num_examples == 7


@pytest.mark.parametrize(
    ("dataset", "received", "cure"),
    [
        (tf.data.Dataset.range(3).repeat(), "an endless one", "Omit repeat()"),
        (tf.data.Dataset.range(3).filter(lambda _: True), "an unknown number", "assert_card"),
        (tf.data.Dataset.range(0), "no example", "Check its files"),
    ],
)
def test_a_dataset_that_does_not_say_how_many_is_refused(
    dataset: tf.data.Dataset, received: str, cure: str
) -> None:
    with pytest.raises(ValueError, match=rf"`source` must be .* Received: {received}.*{cure}"):
        as_source(dataset)


def test_the_named_cure_for_an_unknown_number_works() -> None:
    dataset = tf.data.Dataset.range(9).filter(lambda i: i % 3 == 0)
    counted = dataset.apply(tf.data.experimental.assert_cardinality(3))
    assert as_source(counted).num_examples == 3


@pytest.mark.parametrize(
    ("source", "received"),
    [
        (3, "builtins.int"),
        (np.float32(3), "numpy.float32"),
        (tf.constant(3), "of shape ()"),
        (None, "NoneType"),
        ((np.arange(3), None), "NoneType"),
        (
            [1, 2, 3],
            "builtins.int of shape none. Convert a list of numbers",
        ),
        ((np.zeros([3, 2]), ["a", "b", "c"]), "builtins.str"),
        (iter([1]), "pass it to `fit` directly"),
        (tf.sparse.eye(3), "For sparse tensors use tf.data.Dataset.from_tensor_slices"),
        (np.ma.masked_equal([1, 2], 1), "MaskedArray of shape (2,). Fill it first"),
        ((), "none"),
        ({}, "none"),
        (np.zeros((0, 3)), "(0, 3)"),
        ((np.zeros((4, 3)), np.zeros(5)), "(4, 3), (5,)"),
        ({"x": np.zeros((1, 3)), "y": np.zeros(3)}, "(1, 3), (3,)"),
        (np.array([1, "a"], object), "object, shape (2,)"),
        (np.zeros(3, "datetime64[s]"), "datetime64[s], shape (3,)"),
        (np.zeros(3, [("field", int)]), "shape (3,)"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_array_of_examples_is_refused(source: Any, received: str) -> None:
    with pytest.raises(ValueError, match=r"`source` must be .* Received: .*" + re.escape(received)):
        as_source(source)


@pytest.mark.parametrize("source", [np.arange(3), tf.data.Dataset.range(3)], ids=["array", "data"])
def test_a_data_dir_without_a_name_is_refused(source: Any) -> None:
    with pytest.raises(ValueError, match=r"`data_dir` must be None unless .* Omit it"):
        as_source(source, data_dir="data")
