"""The table of defects shows what was run, and which rows are not fixed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from strategies.keras_support.defects.table import FIXES
from tests.defects.catalogue import ALL_ROWS, rows_named
from tests.defects.row import Row
from tests.defects.runner import RAISED
from tests.defects.table import BEGIN, END, line_of, updated
from tests.defects.trial import Result
from tests.defects.verdict import FIXED, NO_LONGER, NOT_FIXED, REFUSED, judge
from tests.parity.children import Outcome
from tests.programs import ROOT, completed

WITHOUT_A_PATCH = {"C7", "C14"}
RIGHT = {"weights": np.array([3.0, 4.0]), "steps": np.array(9)}
CLIPPED, STRAY, RAISES = (
    rows_named("S4")[0],
    rows_named("C13")[0],
    rows_named("H3")[0],
)


def found(weights: list[float], steps: int = 9) -> Outcome:
    return Outcome("finished", [{"weights": np.array(weights), "steps": np.array(steps)}])


def crashed(text: str) -> Outcome:
    return Outcome("crashed", detail=RAISED + text)


SAME = found([3.0, 4.0])
MIXING = crashed("RuntimeError: Mixing different tf.distribute.Strategy objects: ...")
CURED = crashed("ValueError: `optimizer` 'sgd' must be made inside. Make it, and call compile, "
                "under `with strategy.scope():`.")  # fmt: skip
REPORTED = crashed("RuntimeError: worker 1 failed with OSError: the disk is full")
HUNG = Outcome("hung")


@pytest.mark.parametrize(
    ("row", "stock", "ours", "status"),
    [
        pytest.param(CLIPPED, found([3.0, 4.1]), SAME, FIXED, id="equal to one device"),
        pytest.param(CLIPPED, HUNG, found([3.0, 4.0 + 1e-10]), FIXED, id="equal to rounding"),
        pytest.param(CLIPPED, SAME, SAME, NO_LONGER, id="stock is right as well"),
        pytest.param(CLIPPED, HUNG, found([3.0, 4.0 + 1e-7]), NOT_FIXED, id="nearly equal"),
        pytest.param(CLIPPED, HUNG, found([3.0, np.nan]), NOT_FIXED, id="NaN"),
        pytest.param(CLIPPED, HUNG, found([3.0, 4.0], 10), NOT_FIXED, id="another step"),
        pytest.param(CLIPPED, HUNG, found([3.0]), NOT_FIXED, id="another shape"),
        pytest.param(CLIPPED, HUNG, CURED, NOT_FIXED, id="refused, and should not be"),
        pytest.param(CLIPPED, HUNG, HUNG, NOT_FIXED, id="hung"),
        pytest.param(STRAY, MIXING, CURED, REFUSED, id="refused with the cure"),
        pytest.param(STRAY, MIXING, MIXING, NOT_FIXED, id="an error without the cure"),
        pytest.param(STRAY, MIXING, SAME, FIXED, id="better than refused"),
        pytest.param(RAISES, HUNG, REPORTED, FIXED, id="ends with the reason"),
        pytest.param(RAISES, HUNG, MIXING, NOT_FIXED, id="ends with another reason"),
        pytest.param(RAISES, HUNG, SAME, NOT_FIXED, id="hides the error"),
    ],
)
def test_the_status_follows_from_the_two_outcomes(
    row: Row, stock: Outcome, ours: Outcome, status: str
) -> None:
    right = row.right if row.right is not None else RIGHT
    verdicts = [judge(row, outcome, right, 60) for outcome in (stock, ours)]
    assert Result(row, *verdicts).status == status


def test_a_row_is_not_fixed_if_one_worker_differs() -> None:
    both = Outcome("finished", [*SAME.findings, *found([3.0, 4.5]).findings])
    verdict = judge(CLIPPED, both, RIGHT, 60)
    assert not verdict.is_right
    assert verdict.text == "dW 5.0e-01"


def test_the_frames_that_tensorflow_adds_are_left_out_of_the_table() -> None:
    text = (
        "TypeError: in user code:\n\n    File 'a.py', line 3\n\n    RuntimeError: merge_call called"
    )
    assert judge(CLIPPED, crashed(text), RIGHT, 60).text == "RuntimeError: merge_call called"


def test_every_fix_has_a_reproducer() -> None:
    known = {row.name for row in ALL_ROWS}
    assert known == {fix.row for fix in FIXES} | WITHOUT_A_PATCH


def test_the_committed_table_has_exactly_the_cases_of_the_catalogue() -> None:
    text = (ROOT / "docs" / "concepts" / "defects.md").read_text("utf-8")
    listed = re.findall(
        r"^\| \[(\w+)\]\(\.\./\.\./(tests/defects/\w+\.py)\)†? \| (.*?)(?<!\\) \| ", text, re.M
    )
    assert listed == [
        (row.name, row.reproduce.__module__.replace(".", "/") + ".py", row.case) for row in ALL_ROWS
    ]


def _line(row: Row, ours: Outcome) -> str:
    verdicts = [judge(row, outcome, RIGHT, 60) for outcome in (HUNG, ours)]
    return line_of(Result(row, *verdicts))


def test_some_rows_are_replaced_and_the_others_kept() -> None:
    old = [_line(CLIPPED, found([3.0, 9.0])), _line(STRAY, CURED)]
    text = updated(f"a\n{BEGIN}\n{END}\nb\n", "keras 1.", old, is_whole=True)
    new = updated(text, "keras 1.", [_line(CLIPPED, SAME)], is_whole=False)
    assert new == text.replace(old[0], _line(CLIPPED, SAME)) != text


def test_rows_of_other_versions_are_not_mixed() -> None:
    text = updated(f"{BEGIN}\n{END}", "keras 1.", [_line(CLIPPED, SAME)], is_whole=True)
    with pytest.raises(ValueError, match=r"versions='keras 2\.'.*Run all rows"):
        updated(text, "keras 2.", [_line(STRAY, CURED)], is_whole=False)


def test_an_unknown_row_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"Received: rows='S99'\. Choose from S1, S2, "):
        rows_named("S4,S99")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, list[str]]]:
    """The status of a small run, and the lines of its table by row."""
    table: Path = tmp_path_factory.mktemp("defects") / "table.md"
    table.write_text(f"{BEGIN}\n{END}\n", "utf-8")
    ended = completed("-m", "tests.defects", "--rows=S4,C13", f"--table={table}", timeout=600)
    lines = re.findall(r"^\| \[(\w+)\](.*)$", table.read_text("utf-8"), re.M)
    rows: dict[str, list[str]] = {}
    for name, line in lines:
        rows.setdefault(name, []).append(line)
    return ended.returncode, rows


@pytest.mark.thorough
def test_a_fixed_row_shows_what_stock_does(written: tuple[int, dict[str, list[str]]]) -> None:
    status, rows = written
    stock, ours = (float(number) for number in re.findall(r"dW (\S+)", rows["S4"][0]))
    assert status == 0
    assert ours < 1e-12 < 1e-3 < stock
    assert rows["S4"][0].endswith("| fixed |")


@pytest.mark.thorough
def test_a_refused_row_shows_the_cure(written: tuple[int, dict[str, list[str]]]) -> None:
    for line in written[1]["C13"]:
        assert "under `with strategy.scope():`." in line
        assert line.endswith("| refused |")
