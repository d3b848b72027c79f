"""Datasets with `__len__` and `__getitem__`, in this process and in others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data import datasets
from tests.unit.tfscale.data.taking import taken
from tfscale.data import indexed
from tfscale.data.sources import as_source

ROWS = [4, 0, 10, 4]


def lists(batch: Any) -> Any:
    return tf.nest.map_structure(lambda part: part.numpy().tolist(), batch)


def expected(rows: list[int]) -> Any:
    return {
        "id": rows,
        "vector": [[float(row)] * 3 for row in rows],
        "text": [f"é{row}".encode() for row in rows],
        "pair": ([row % 2 == 0 for row in rows], [-row for row in rows]),
    }


@pytest.fixture
def opened() -> Iterator[Callable[..., Any]]:
    """Calls `indexed`, ends the processes afterwards, and fails if one remains."""
    sources: list[Any] = []

    def opened(*arguments: Any, **options: Any) -> Any:
        sources.append(indexed(*arguments, **options))
        return sources[-1]

    yield opened
    for source in sources:
        source.reader.close()
    assert child_processes() == []


def child_processes() -> list[str]:
    """Programs of this process's children that read."""
    found = []
    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended
            for pid in children.read_text().split():
                with contextlib.suppress(OSError):  # a process that has ended
                    line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if "sources/examples.py" in line:
                        found.append(line)
    return found


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_examples_are_those_of_the_dataset(opened: Callable[..., Any], workers: int) -> None:
    source = opened(datasets.Rows(), read_workers=workers)
    assert source.num_examples == datasets.COUNT
    for rows in ([], ROWS, [3]):
        batch = taken(source, rows)
        assert lists(batch) == expected(rows)
        assert batch["vector"].dtype == tf.float32
        assert batch["vector"].shape == (len(rows), 3)


def test_a_dataset_is_a_source_of_a_pipeline_as_it_is() -> None:
    assert lists(taken(as_source(datasets.Rows()), ROWS)) == expected(ROWS)


def test_several_examples_are_read_in_one_call() -> None:
    dataset = datasets.Several()
    source = indexed(dataset)
    dataset.calls.clear()
    assert lists(taken(source, ROWS)) == expected(ROWS)
    assert dataset.calls == [ROWS]


@pytest.mark.parametrize("workers", [0, 2])
def test_examples_of_different_lengths_need_a_spec(
    opened: Callable[..., Any], workers: int
) -> None:
    dataset = [list(range(i + 1)) for i in range(5)]
    spec = tf.TensorSpec([None], tf.int32)
    source = opened(dataset, element_spec=spec, read_workers=workers)
    assert taken(source, [3, 0]).to_list() == [[0, 1, 2, 3], [0]]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"example 3 of int64, shape \(4,\)"):
        taken(opened(dataset, read_workers=workers), [3])


def test_a_type_that_is_asked_for_is_converted_without_loss_only() -> None:
    floats = indexed([1.5, 2.5], element_spec=tf.TensorSpec([], tf.float32))
    assert taken(floats, [1]).dtype == tf.float32
    with pytest.raises(ValueError, match=r"example 0 of float64, shape \(\), where int32"):
        indexed([1.5, 2.5], element_spec=tf.TensorSpec([], tf.int32))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"id": 1}, r"example 7 with \['id'\], where the first has"),
        (None, r"example 7 with one value"),
        ({**datasets.Rows()[7], "id": 7.0}, r"example 7\['id'\] of float64.*Convert it"),
        ({**datasets.Rows()[7], "id": None}, r"example 7\['id'\] with None"),
        ({**datasets.Rows()[7], "text": 3}, r"example 7\['text'\] of int64"),
        (
            {**datasets.Rows()[7], "vector": np.zeros(4, np.float32)},
            r"example 7\['vector'\] of float32, shape \(4,\).*element_spec",
        ),
        ({**datasets.Rows()[7], "pair": (True, "x", 0)}, r"\['pair'\]\[2\]"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-",
)
def test_an_example_unlike_the_first_is_named(
    opened: Callable[..., Any], workers: int, other: Any, message: str
) -> None:
    source = opened(datasets.At(other), read_workers=workers)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        taken(source, [0, 7, 1])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("raise", r"raised KeyError: 'no such record' at examples 7, 1\. Fix"),
        ("exit", r"raised SystemExit: left at examples 7, 1"),
        ("die", r"ended with status 3 at examples 7, 1"),
        ("kill", r"ended with status -9 at examples 7, 1.*memory was short"),
        ("hang", r"not answered for 4 s at examples 7, 1.*deadline_seconds"),
    ],
)
def test_a_worker_that_fails_is_an_error_and_the_next_read_starts_again(
    opened: Callable[..., Any], what: str, message: str
) -> None:
    deadline = 4.0 if what == "hang" else 60.0
    source = opened(datasets.Does(what), read_workers=2, deadline_seconds=deadline)
    with pytest.raises(tf.errors.UnknownError, match=message):
        taken(source, [0, 5, 7, 1])
    assert lists(taken(source, ROWS)) == expected(ROWS)


def test_what_a_dataset_prints_is_no_answer(opened: Callable[..., Any]) -> None:
    source = opened(datasets.Does("print"), read_workers=2)
    assert lists(taken(source, [7, 0, 7])) == expected([7, 0, 7])


def test_processes_see_no_gpu_and_import_no_tensorflow(opened: Callable[..., Any]) -> None:
    source = opened(datasets.Process(), read_workers=2)
    batch = taken(source, list(range(6)))
    assert os.getpid() not in batch["pid"].numpy()
    assert len(set(batch["pid"].numpy().tolist())) == 2
    assert not batch["tensorflow"].numpy().any()
    assert set(batch["gpus"].numpy().tolist()) == {b""}


def test_a_dataset_that_cannot_be_pickled_is_refused() -> None:
    dataset = datasets.Rows()
    dataset.stream = open(os.devnull)  # type: ignore[attr-defined]  # noqa: SIM115, PTH123
    with dataset.stream, pytest.raises(ValueError, match=r"picklable.*Rows \(TypeError"):  # type: ignore[attr-defined]
        indexed(dataset, read_workers=1)


class Batches(keras.utils.PyDataset):
    """Batches of 4, 4 and 3 rows, or of other sizes."""

    def __init__(self, sizes: tuple[int, ...] = (4, 4, 3)) -> None:
        super().__init__()
        self.sizes = sizes
        self.made: list[int] = []

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Any:
        self.made.append(index)
        first = sum(self.sizes[:index])
        ids = np.arange(first, first + self.sizes[index])
        return np.stack([ids, -ids], 1), ids


def test_the_rows_of_a_pydataset_are_the_examples() -> None:
    dataset = Batches()
    source = indexed(dataset)
    assert source.num_examples == 11
    dataset.made.clear()
    x, y = taken(source, [9, 2, 7, 3, 10])
    assert y.numpy().tolist() == [9, 2, 7, 3, 10]
    assert x.numpy().tolist() == [[9, -9], [2, -2], [7, -7], [3, -3], [10, -10]]
    assert sorted(set(dataset.made)) == sorted(dataset.made)  # each batch once


def test_a_short_batch_in_the_middle_of_a_pydataset_is_refused() -> None:
    source = indexed(Batches((4, 3, 4, 2)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"batch 1 of 3 rows.*has 4"):
        taken(source, [5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": []}, "at least one example.*length 0"),
        ({"dataset": iter([1])}, "`__len__`.*Convert a stream"),
        ({"read_workers": -1}, "`read_workers`"),
        ({"deadline_seconds": 0}, "`deadline_seconds` must be positive"),
        ({"deadline_seconds": "a"}, "`deadline_seconds` must be positive"),
        ({"element_spec": tf.TensorSpec([3, None], tf.int32)}, "only the first dimension"),
        ({"dataset": [None]}, "example 0 with None"),
        ({"dataset": [object()]}, "example 0 with a object"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        indexed(**{"dataset": datasets.Rows(), **arguments})


def test_the_fingerprint_differs_with_the_examples() -> None:
    assert indexed([1, 2]).fingerprint == indexed([1, 2]).fingerprint
    others = {indexed(data).fingerprint for data in ([1, 2], [1, 2, 3], [5, 2], [1.0, 2])}
    assert len(others) == 4
