"""CSV files, compared with what Python's csv module reads."""

from __future__ import annotations

import csv as library
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data.taking import taken
from tfscale.data import csv
from tfscale.data.sources import csv_files

pytest.importorskip("pyarrow")
TEXTS = ["plain", "two\nlines", 'a "quote"', "a,comma", "", "é", "\r\n", '"', "end\n"]


def written(path: Path, count: int = 100, delimiter: str = ",") -> list[list[Any]]:
    random = np.random.default_rng(0)
    rows = [[i, i / 4, random.choice(TEXTS), random.choice(TEXTS)] for i in range(count)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = library.writer(stream, delimiter=delimiter)
        writer.writerows([["id", "x", "a", "the\nb"], *rows])
    return rows


@pytest.mark.parametrize("block", [16, 100, 2**18])
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_rows_are_those_of_the_csv_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, delimiter: str
) -> None:
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", block)
    rows = written(tmp_path / "a.csv", delimiter=delimiter)
    if block == 16:  # the header is read with the first block
        monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 20)
    source = csv(tmp_path / "a.csv", delimiter=delimiter, cache_bytes=1000)
    assert source.num_examples == 100
    indices = [99, 0, *range(20, 60), 5, 5]
    batch = taken(source, indices)
    assert batch["id"].numpy().tolist() == indices
    assert batch["x"].numpy().tolist() == [index / 4 for index in indices]
    for column, name in enumerate(["a", "the\nb"], start=2):
        found = [text.decode() for text in batch[name].numpy()]
        assert found == [rows[index][column] for index in indices]


def test_types_are_those_of_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 32)
    lines = [f"{i},{i},{'' if i < 50 else 'x'},true,2026-01-0{i % 9 + 1}" for i in range(99)]
    (tmp_path / "a.csv").write_text("\n".join(["i,f,s,b,d", *lines, "99,1.5,,false,2026-01-01"]))
    batch = taken(csv(tmp_path / "a.csv"), [0, 99])
    assert {name: part.dtype for name, part in batch.items()} == {
        "i": tf.int64,
        "f": tf.float64,
        "s": tf.string,
        "b": tf.bool,
        "d": tf.string,
    }
    assert batch["f"].numpy().tolist() == [0, 1.5]
    assert batch["b"].numpy().tolist() == [True, False]
    assert batch["d"].numpy().tolist() == [b"2026-01-01"] * 2


def test_several_files_have_one_header(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.csv").write_bytes(b"\xef\xbb\xbfx,y\r\n%d,a\r\n\r\n" % number)
    features, x = taken(csv(tmp_path / "*.csv", target="x"), [2, 0, 1])
    assert x.numpy().tolist() == [2, 0, 1]
    assert features["y"].numpy().tolist() == [b"a"] * 3
    (tmp_path / "3.csv").write_text("x,z\n3,a\n")
    with pytest.raises(ValueError, match=r"3\.csv with x, z, where .*0\.csv has x, y\. Write"):
        csv(tmp_path / "*.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,\n", r"column 'y' of .*a\.csv with missing values"),
        ("x,y\n1,2\n,4\n", r"column 'x' of .*a\.csv with missing values"),
        ("x,y\n1,2\n3\n", r"a\.csv \(.*Expected 2 columns, got 1"),
        ('x,y\n1,5" pipe\n2,a\n', r"a\.csv \(a quote within a field"),
        ('x,y\n1,"open\n2,a\n', r"a\.csv \(a quote within a field"),
        ('x,y\n1,"a"b\n2,a\n', r"a\.csv \(a quote within a field"),
        ("x,y\n", r"at least one row"),
        ("", r"at least one column besides"),
        ("x,x\n1,2\n", r"'x', of which .* has 2"),
    ],
)
def test_a_file_that_is_not_plain_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        csv(tmp_path / "a.csv")


@pytest.mark.parametrize("delimiter", ['"', "", ",,", "\n", 3])
def test_a_wrong_delimiter_is_refused(tmp_path: Path, delimiter: Any) -> None:
    with pytest.raises(ValueError, match="`delimiter` must be one ASCII character"):
        csv(tmp_path / "a.csv", delimiter=delimiter)


def test_a_changed_file_is_refused_and_has_another_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x\n1\n2\n")
    source = csv(path)
    path.write_text("x\n1\n33\n")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"a\.csv, which changed"):
        taken(source, [0])
    assert csv(path).fingerprint != source.fingerprint
