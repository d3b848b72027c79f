"""Damaged and hostile records give a harmless page, or one line and status 2."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tfscale.report import report_runs
from tfscale.__main__ import main
from tfscale.report import chart
from tfscale.report.confusion import MOST_CLASSES, confusion_table
from tfscale.report.json import from_json, to_json
from tfscale.report.page import render
from tfscale.report.record import Confusion, RunRecord

SCRIPT = "</title></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
DEEP = 100_000


def report(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Returns the page, or the one line that says why there is none."""
    status = main(["report", str(folder)])
    printed = capsys.readouterr()
    if status == 0:
        assert printed.err == ""
        return (folder / "report.html").read_text("utf-8")
    assert status == 2
    assert printed.out == ""
    assert printed.err.startswith("tfscale report: ")
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 1000
    assert not (folder / "report.html").exists()
    return printed.err


def without_own_script(page: str) -> str:
    script = Path(chart.__file__).parent / "templates" / "chart.js"
    return page.replace(f'<script type="module">{script.read_text("utf-8")}</script>', "")


@pytest.mark.parametrize("name", ["run.json", "summary.json", "history.json"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must be JSON. Received: ''"),
        (b"\0\0\0\0", "must be JSON"),
        (b"\x89PNG\r\n\x1a\n", "must be text in UTF-8. Received: byte 0x89 at 0"),
        (b'{"title": "\xff"}', "must be text in UTF-8. Received: byte 0xff at 11"),
        ('{"title": "ü"}'.encode("utf-16"), "must be text in UTF-8"),
        (b"null", "must be a JSON object. Received: NoneType"),
        (b'"' + b"x" * 10**6 + b'"', "must be a JSON object. Received: str"),
        (b"[" * DEEP, "nested too deep"),
        (b'{"a":' * DEEP, "nested too deep"),
        (b'{"version": 1, "title": "t", "first_epoch": ' + b"9" * 5000 + b"}", "range of a float"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_record_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    line = report(tmp_path, capsys)
    assert f"`{name}` {words}" in line or words in line


@pytest.mark.parametrize("name", ["run.json", "summary.json", "history.csv", "predictions.csv"])
@pytest.mark.parametrize("kind", ["folder", "FIFO", "device"])
def test_a_path_that_is_not_a_plain_file_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    match kind:
        case "folder":
            (tmp_path / name).mkdir()
        case "FIFO":
            os.mkfifo(tmp_path / name)
        case "device":
            (tmp_path / name).symlink_to("/dev/zero")  # which never ends
    assert f"`{name}` must be a file. Received: something else" in report(tmp_path, capsys)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("title", 7, "`title` must be a text"),
        ("results", [1], "`run.json` must be a run"),
        ("results", {"a": "high"}, "`results` must contain numbers"),
        ("results", {"a": 10**400}, "in the range of a float"),
        ("history", {"loss": 1}, "`run.json` must be a run"),
        ("history", {"loss": [10**400]}, "in the range of a float"),
        ("history", {"loss": [1], "acc": [1, 2]}, "`history` must have one value per epoch"),
        ("configuration", [1], "`configuration` must be a mapping from names to values"),
        ("environment", "Linux", "`environment` must be a mapping from names to values"),
        ("timing", {"total_seconds": 10**400}, "in the range of a float"),
        ("timing", {"num_steps": 10**30}, "`num_steps` must be an integer, at least 0 and at most"),
        ("first_epoch", 10**30, "`first_epoch` must be an integer"),
        ("first_epoch", 1.5, "`first_epoch` must be an integer"),
        ("curves", [{"title": "a", "series": {"b": [1]}, "first": 10**30}], "`first` must be"),
        ("curves", [{"title": "a", "series": {"b": [1]}, "every": "2"}], "`every` must be"),
        ("curves", [{"title": "a", "series": {"b": [1]}, "x_name": 3}], "`x_name` must be a text"),
        ("curves", {"a": 1}, "`run.json` must be a run"),
        ("confusion", {"labels": "ab", "matrix": [[1, 2], [3, 4]]}, "`labels` must be a sequence"),
        ("confusion", {"labels": ["a"], "matrix": [[1.5]]}, "`matrix` must be an integer"),
        ("confusion", {"labels": ["a"], "matrix": 1}, "`matrix` must be a sequence of values"),
        ("notes", "a", "`notes` must be a sequence of values"),
        ("notes", [1], "`notes` must be a text"),
        ("command", ["a"], "`command` must be a text"),
        ("finished", 0, "`finished` must be a text"),
    ],
)
def test_a_field_of_another_type_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, value: Any, words: str
) -> None:
    record = {"version": 1, "title": "t", field: value}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert words in report(tmp_path, capsys)


def test_a_configuration_may_be_nested_up_to_a_limit() -> None:
    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = [value]
        return value

    run = RunRecord("t", configuration={"a": nested(15)})
    assert from_json(to_json(run)) == run
    with pytest.raises(ValueError, match="must be JSON values, nested at most 20 deep"):
        RunRecord("t", configuration={"a": nested(500)})


def test_no_text_of_a_record_becomes_code_of_the_page() -> None:
    page = render(
        RunRecord(
            SCRIPT,
            results={SCRIPT: 1.0},
            configuration={SCRIPT: SCRIPT, "b": [SCRIPT], "c": {SCRIPT: SCRIPT}},
            environment={SCRIPT: SCRIPT, "strategy": SCRIPT},
            history={SCRIPT: [1.0, math.nan], "val_" + SCRIPT: [2.0, 3.0]},
            confusion=Confusion([SCRIPT, "b"], [[1, 2], [3, 4]]),
            notes=[SCRIPT],
            command=SCRIPT,
            finished=SCRIPT,
        )
    )
    assert re.search(r"<script|<img|onerror=alert\(1\)>", without_own_script(page)) is None
    assert "default-src 'none'" in page
    assert page.count("&lt;script&gt;") > 15


# Replacements for a byte of a file or a value of a record.
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 10**30, 10**400, math.nan, math.inf, 1e308, -1e308, 5e-324, "", "nan",
    SCRIPT, "\ud800", "\0", "x" * 9999, [], [1], [[]], {}, {"": None}, [None],
]  # fmt: skip


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*before, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 3)):
            yield from paths(value[index], (*before, index))


def damaged(record: dict[str, Any], draw: random.Random) -> bytes:
    record = copy.deepcopy(record)
    for *parents, last in draw.sample([path for path in paths(record) if path], 2):
        target: Any = record
        for key in parents:
            # The first damage may have removed this part.
            try:
                target = target[key]
            except (TypeError, KeyError, IndexError):
                break
        else:
            with contextlib.suppress(TypeError, KeyError, IndexError):
                if draw.random() < 0.2:
                    del target[last]
                else:
                    target[last] = copy.deepcopy(draw.choice(VALUES))
    content = json.dumps(record).encode()
    if draw.random() < 0.1:
        return content[: draw.randrange(len(content))]
    if draw.random() < 0.1:
        position = draw.randrange(len(content))
        return content[:position] + bytes([draw.randrange(256)]) + content[position + 1 :]
    return content


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_record_is_a_page_or_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    draw = random.Random(seed)
    record = json.loads(to_json(report_runs.ordinary(epochs=3)))
    pages = 0
    for number in range(100):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "run.json").write_bytes(damaged(record, draw))
        text = report(folder, capsys)
        pages += text.startswith("<!doctype html>")
        assert "<script" not in without_own_script(text) or not text.startswith("<!doctype")
    assert 0 < pages < 100  # both happen


def test_of_many_classes_the_most_confused_are_shown_with_the_rates_of_all() -> None:
    count = 600
    matrix = [[0] * count for _ in range(count)]
    for label in range(count):
        matrix[label][label] = 90
    matrix[7][500] = 30  # 500 is right in 90 of its 120 predictions
    matrix[300][299] = 10
    table = confusion_table(Confusion([f"n{label}" for label in range(count)], matrix))
    assert len(table) < 60_000
    heads = re.findall(r'<th scope="row"><span>(n\d+)</span>', table)
    assert len(heads) == MOST_CLASSES
    assert {"n7", "n299", "n300", "n500"} <= set(heads)
    assert heads == sorted(heads, key=lambda name: int(name[1:]))
    (row,) = re.findall(r"<tr><th[^>]*><span>n7</span></th>.*?</tr>", table)
    assert re.findall(r">([\d.%]+)</td>", row) == ["90", "30", "75.0%"]
    precision = re.findall(r"<td>([\d.]+%)</td>", table.partition("<tfoot>")[2])
    assert precision[heads.index("n500")] == "75.0%"
    assert "Shown are the 50 of 600 classes with the most mistakes" in table
    assert "<b>n7</b> predicted as <b>n500</b>: 30 of 120" in table
    assert "Shown are" not in confusion_table(Confusion(["a", "b"], [[1, 0], [0, 1]]))


def test_predictions_of_too_many_classes_are_not_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{n},{n + 1}" for n in range(20_000)]
    (tmp_path / "predictions.csv").write_text("\n".join(["label,prediction", *lines]))
    page = report(tmp_path, capsys)
    assert "Confusions of more than 3,000 classes are not counted." in page
    assert len(page) < 50_000


@pytest.mark.thorough
def test_three_thousand_classes_and_a_million_epochs_are_a_small_page() -> None:
    draw = random.Random(0)
    true = [draw.randrange(3000) for _ in range(100_000)]
    predicted = [t if draw.random() < 0.8 else draw.randrange(3000) for t in true]
    confusion = Confusion.of([f"class {n}" for n in range(3000)], true, predicted)
    loss = [1 / (epoch + 1) for epoch in range(1_000_000)]
    run = RunRecord("large", history={"loss": loss}, confusion=confusion)
    assert len(render(run)) < 100_000
    text = to_json(run)
    assert len(text) < 50_000_000
    assert from_json(text) == run
