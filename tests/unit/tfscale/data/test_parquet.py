"""Parquet files, compared with what pyarrow reads as a whole."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data.taking import taken
from tfscale.data import parquet
from tfscale.data.sources.tables import Blocks

arrow = pytest.importorskip("pyarrow")
library = pytest.importorskip("pyarrow.parquet")
ROWS = [22, 0, 7, 22, 12]


def table(first: int = 0, count: int = 12) -> Any:
    ids = np.arange(first, first + count)
    return arrow.table(
        {
            "id": ids,
            "half": ids.astype(np.float16),
            "flag": ids % 3 == 0,
            "text": [f"é{i}" for i in ids],
            "kind": arrow.array([f"k{i % 2}" for i in ids]).dictionary_encode(),
            "pair": arrow.FixedSizeListArray.from_arrays(np.repeat(ids, 2), 2),
            "tokens": [list(range(i % 4)) for i in ids],
            "words": [["a"] * (i % 3) for i in ids],
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of row groups of 5 rows: rows 0 to 11 and 12 to 22."""
    library.write_table(table(), tmp_path / "a-0.parquet", row_group_size=5)
    library.write_table(table(12, 11), tmp_path / "a-1.parquet", row_group_size=5)
    return tmp_path


def listed(part: Any) -> Any:
    found = part.to_list() if isinstance(part, tf.RaggedTensor) else part.numpy().tolist()
    return np.array(found, object).tolist()


def as_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: as_bytes(part) for name, part in value.items()}
    if isinstance(value, list):
        return [as_bytes(part) for part in value]
    return value.encode() if isinstance(value, str) else value


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_rows_are_those_that_pyarrow_reads(folder: Path, cache_bytes: int) -> None:
    source = parquet(folder / "a-*.parquet", cache_bytes=cache_bytes)
    both = [library.read_table(path) for path in sorted(folder.iterdir())]
    expected = arrow.concat_tables(both, promote_options="permissive").take(ROWS).to_pydict()
    batch = taken(source, ROWS)
    assert source.num_examples == 23
    assert {name: listed(part) for name, part in batch.items()} == as_bytes(expected)
    assert batch["pair"].shape == (5, 2)
    assert (batch["half"].dtype, batch["flag"].dtype) == (tf.float16, tf.bool)
    empty = taken(source, [])
    assert {name: part.shape[0] for name, part in empty.items()} == dict.fromkeys(expected, 0)


def test_a_target_makes_pairs_of_the_chosen_columns(folder: Path) -> None:
    source = parquet([folder / "a-1.parquet"], ["half", "text"], target="id")
    features, ids = taken(source, [10, 0])
    assert sorted(features) == ["half", "text"]
    assert ids.numpy().tolist() == [22, 12]


def test_only_the_row_groups_of_the_rows_are_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = parquet(folder / "a-0.parquet", ["id"])
    read, decode = [], library.ParquetFile.read_row_group

    def counted(self: Any, group: int, **options: Any) -> Any:
        read.append((group, options["columns"]))
        return decode(self, group, **options)

    monkeypatch.setattr(library.ParquetFile, "read_row_group", counted)
    for _ in range(2):
        assert taken(source, [1, 11, 0])["id"].numpy().tolist() == [1, 11, 0]
    assert read == [(0, ["id"]), (2, ["id"])]


def test_threads_decode_a_block_once_and_the_oldest_is_dropped() -> None:
    begun, decoded = threading.Barrier(4), []

    def decode(number: int) -> np.ndarray:
        decoded.append(number)
        return np.full(10, number, np.int8)

    blocks = Blocks(decode, most_bytes=25)

    def read() -> None:
        begun.wait()
        for number in (1, 2, 1, 2):
            assert blocks[number][0] == number

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert decoded == [1, 2]
    for number in (3, 2, 1):
        assert blocks[number][0] == number
    assert decoded == [1, 2, 3, 1]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1, None], r"column 'x' of .*b\.parquet with missing values.*columns="),
        ([[1], [None]], r"column 'x' of .*b\.parquet with missing values"),
        (
            arrow.array([1, 2]).cast("timestamp[ms]"),
            r"column 'x' of type timestamp\[ms\]\. Convert",
        ),
        ([{"y": 1}, {"y": 2}], r"of type struct"),
        ([[[1]], [[2]]], r"of type list<.*list<"),
    ],
    ids=["null", "null in a list", "time", "struct", "deep"],
)
def test_a_column_without_a_tensor_is_named(tmp_path: Path, column: Any, message: str) -> None:
    library.write_table(arrow.table({"i": [0, 1], "x": column}), tmp_path / "b.parquet")
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
        taken(parquet(tmp_path / "b.parquet"), [0, 1])
    assert listed(taken(parquet(tmp_path / "b.parquet", ["i"]), [1])["i"]) == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"files": "nowhere.parquet"}, "which matches none"),
        ({"files": "nowhere-*"}, "which matches none"),
        ({"columns": ["idd"]}, r"'idd', of which .* has 0\. It has id, half"),
        ({"target": "labels"}, "'labels', of which"),
        ({"columns": ["id"], "target": "id"}, "at least one column besides `target`"),
        ({"cache_bytes": -1}, "`cache_bytes`"),
    ],
)
def test_wrong_arguments_are_refused(folder: Path, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parquet(**{"files": folder / "a-0.parquet", **arguments})


def test_files_of_different_columns_are_refused(folder: Path) -> None:
    library.write_table(arrow.table({"id": [1.5]}), folder / "b.parquet")
    files = [folder / "a-0.parquet", folder / "b.parquet"]
    with pytest.raises(ValueError, match=r"'id' of .*b\.parquet of type double, where .*int64"):
        parquet(files, ["id"])


def test_a_damaged_and_a_changed_file_are_refused(folder: Path) -> None:
    path = folder / "a-0.parquet"
    source, content = parquet(path), path.read_bytes()
    library.write_table(table(1), path, row_group_size=5)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"a-0\.parquet, which changed"):
        taken(source, [0])
    assert parquet(path).fingerprint != source.fingerprint
    path.write_bytes(content[:-20])
    with pytest.raises(ValueError, match=r"complete Parquet files\. Received: .*a-0\.parquet"):
        parquet(path)
