"""Lines of text and of JSON; Python's splitlines and json are the oracles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data.taking import taken
from tfscale.data import json_lines, text_lines
from tfscale.data.sources import line_files


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("is_closed", [True, False])
def test_every_line_of_several_files_is_an_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes, *, is_closed: bool
) -> None:
    monkeypatch.setattr(line_files, "_CHUNK", 1000)
    random = np.random.default_rng(0)
    expected = []
    for number, count in enumerate((1, 200, 130, 64)):
        lines = [b"\xff" * int(size) for size in random.integers(0, 9, count)]
        lines[count // 2] = b"long" * 1000
        lines[-1] = b"last"
        (tmp_path / f"{number}.txt").write_bytes(end.join(lines) + end * is_closed)
        expected += lines
    source = text_lines(f"{tmp_path}/*.txt")
    assert source.num_examples == len(expected) == 395
    rows = random.permutation(395).tolist()
    assert taken(source, rows).numpy().tolist() == [expected[row] for row in rows]


def test_files_without_lines_are_refused_and_a_changed_one_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("")
    with pytest.raises(ValueError, match="must have at least one line"):
        text_lines(path)
    path.write_text("one\n")
    source = text_lines(path)
    path.write_text("other\n")
    with pytest.raises(tf.errors.InvalidArgumentError, match="which changed"):
        taken(source, [0])


LINES = [
    {"n": 1, "x": 2, "ok": True, "t": "é", "ids": [1, 2], "box": [[1, 2.5]], "in": {"w": ["a"]}},
    {"n": -(2**63), "x": 0.5, "ok": False, "t": "", "ids": [], "box": [[3, 4]], "in": {"w": []}},
    {
        "n": 2**63 - 1,
        "x": 1e300,
        "ok": True,
        "t": "c",
        "ids": [7],
        "box": [[0, 0]],
        "in": {"w": []},
    },
]


def test_json_has_the_types_of_all_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)))
    found = taken(json_lines(path), [2, 0, 1])
    lines: list[Any] = [LINES[2], LINES[0], LINES[1]]
    assert found["n"].dtype == tf.int64
    assert found["x"].dtype == tf.float64
    for name in ("n", "x", "ok", "box"):
        assert found[name].numpy().tolist() == [line[name] for line in lines]
    assert [text.decode() for text in found["t"].numpy()] == [line["t"] for line in lines]
    assert found["ids"].dtype == tf.int64
    assert found["ids"].to_list() == [line["ids"] for line in lines]
    assert found["in"]["w"].to_list() == [[], [b"a"], []]
    assert found["box"].shape == (3, 1, 2)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (['{"a": 1}', "{a"], "line 2 of .*: Expecting property name"),
        (['{"a": 1}', '{"b": 1}'], "it has the keys b, and before a"),
        (['{"a": 1}', '{"a": "1"}'], r"part \['a'\] is string, and before int64"),
        (['{"a": 1}', '{"a": true}'], "is bool, and before int64"),
        (['{"a": null}'], r"line 1 of .*: part \['a'\] is null"),
        (['{"a": [1, "b"]}'], "is string, and before int64"),
        (['{"a": [[1], [2, 3]]}'], "list of lists of different lengths"),
        (['{"a": [{"b": 1}]}'], "list of objects"),
        (['{"a": 1}', '{"a": [1]}'], r"has the shape \(1,\), and before \(\)"),
        (['{"a": 9223372036854775808}'], "no int64"),
        (['{"a": 0.5}', '{"a": 9007199254740993}'], r"above 2\*\*53"),
        (["1", "", "2"], "line 2 of .*: Expecting value"),
    ],
)
def test_a_line_that_differs_is_named(tmp_path: Path, lines: list[str], problem: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=problem):
        json_lines(path)
