"""The picture of a pipeline in a report."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.tfscale.report.test_report_page import Structure
from tfscale.report.json import from_json, to_json
from tfscale.report.page import render
from tfscale.report.record import RunRecord
from tfscale.report.stages import Pass, Stages

STEP = Stages(
    "1f1b <b>",
    [
        Pass(0, "forward", 0, 0.0, 1.0),
        Pass(1, "forward", 0, 1.0, 2.0),
        Pass(1, "backward", 0, 2.0, 3.0),
        Pass(0, "backward", 0, 3.0, 4.0, run=1),
    ],
)


def test_a_box_for_each_pass_stands_where_it_was() -> None:
    page = render(RunRecord("t", stages=STEP))
    assert Structure(page).open == []
    boxes = re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="(\d+)" width="([\d.]+)"', page)
    assert boxes == [
        ("forward", "0.0", "2", "250.0"),
        ("forward", "250.0", "42", "250.0"),
        ("backward", "500.0", "42", "250.0"),
        ("backward", "750.0", "2", "250.0"),
    ]
    assert "stage 0, backward, microbatch 0, run 1: 1 s" in page
    assert "1f1b &lt;b&gt;" in page
    assert "50.0% of it stages waited" in page or "50% of it stages waited" in page


def test_a_run_without_stages_has_no_picture() -> None:
    assert "Stages</h2>" not in render(RunRecord("t"))


def test_a_file_keeps_the_stages() -> None:
    run = RunRecord("t", stages=STEP)
    assert from_json(to_json(run)) == run


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stage": -1}, "`stage` must be an integer"),
        ({"kind": "both"}, "`kind` must be forward or backward"),
        ({"end": 0.5}, "`begin` and `end` must be finite"),
        ({"begin": float("nan")}, "`begin` and `end` must be finite"),
        ({"microbatch": 1.5}, "`microbatch` must be an integer"),
    ],
)
def test_impossible_passes_are_refused(change: dict[str, Any], words: str) -> None:
    given = {"stage": 0, "kind": "forward", "microbatch": 0, "begin": 1.0, "end": 2.0}
    with pytest.raises(ValueError, match=words):
        Pass(**{**given, **change})


@pytest.mark.parametrize("passes", [[], [1], [Pass(5000, "forward", 0, 0.0, 1.0)], "ab"])
def test_impossible_steps_are_refused(passes: Any) -> None:
    with pytest.raises(ValueError, match="Received"):
        Stages("t", passes)
