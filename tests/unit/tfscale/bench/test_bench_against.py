"""What `--against` says, from two made-up runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tfscale.bench.test_bench_table import MS, OUTCOME, ROWS
from tfscale.__main__ import main
from tfscale.bench.against import Change, as_text, compared, read_earlier
from tfscale.bench.figures import Spread
from tfscale.bench.outcome import Outcome, Row

PLAIN, FAST, *_ = ROWS


def earlier(**changes: Any) -> Outcome:
    rows = (
        dataclasses.replace(PLAIN, rounds=(6.0, 8.0, 7.0)),
        dataclasses.replace(FAST, rounds=(1.0, 2.0, 6.0, 1.5)),
        Row("gone", "", MS, (1.0,)),
        Row("pair", "another unit", "KB a step", (1.0,)),
    )
    return dataclasses.replace(OUTCOME, rows=rows, **changes)


def written(folder: Path, outcome: Outcome) -> Path:
    path = folder / "earlier.json"
    path.write_text(json.dumps(outcome.to_json()), "utf-8")
    return path


def test_medians_are_compared_and_overlapping_ranges_are_no_change() -> None:
    plain, fast = compared(OUTCOME, earlier()).changes
    assert (plain.name, plain.ratio, plain.overlaps) == ("plain", 3.0 / 7.0, False)
    assert plain.verdict == "smaller"
    assert (fast.name, fast.ratio, fast.overlaps) == ("fast", 3.0 / 1.75, True)
    assert fast.verdict == "ranges overlap"


@pytest.mark.parametrize(
    ("now", "before", "overlaps"),
    [
        ((5, 7), (4, 6), True),
        ((4, 6), (5, 7), True),
        ((4, 6), (6, 7), True),
        ((1, 9), (4, 5), True),
        ((4, 5), (1, 9), True),
        ((7, 8), (4, 6), False),
        ((1, 2), (4, 6), False),
    ],
)
def test_ranges_overlap_if_they_have_a_value_in_common(
    now: tuple[int, int], before: tuple[int, int], overlaps: bool
) -> None:
    change = Change("a", MS, Spread(0.0, *before), Spread(1.0, *now))
    assert change.overlaps is overlaps
    assert change.ratio is None  # The earlier median is 0.


def test_the_text_has_both_values_and_what_else_changed() -> None:
    machine = dataclasses.replace(OUTCOME.machine, cpus=64, versions={"keras": "3.14.0", "a": "1"})
    settings = {"rounds": 9, "threads": 2}
    text = as_text(compared(OUTCOME, earlier(machine=machine, settings=settings)))
    assert "plain  3.00 [2.00-4.00]  7.00 [6.00-8.00]        0.43x  ms a step  smaller" in text
    assert "The machines differ, so the ratios say nothing about the software." in text
    assert "machine: processor 64 x Some CPU -> 4 x Some CPU." in text
    assert "versions: keras 3.14.0 -> 3.15.1, a 1 -> absent." in text
    assert "settings: rounds 9 -> 4, threads 2 -> absent." in text
    assert "new: lonely.\nnot measured now: gone." in text


def test_an_equal_machine_is_named_the_same() -> None:
    text = as_text(compared(OUTCOME, earlier()))
    assert "machine: the same.\nversions: the same.\nsettings: the same.\n" in text
    assert "differ" not in text


def test_a_file_that_json_has_printed_is_read(tmp_path: Path) -> None:
    assert read_earlier(written(tmp_path, OUTCOME)) == OUTCOME


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"`--against` must be a file .* No such file"),
        (
            "{",
            r"`--against` must be a file that `tfscale bench --json` has printed\. .*: Expecting",
        ),
        ("[]", r"`format` must be 1\. Received: 'list'"),
        ('{"format": 1}', r"`values` must have the fields of an outcome: 'rows'"),
    ],
)
def test_other_files_are_refused_before_anything_is_measured(
    content: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(ValueError, match=message):
        read_earlier(path)


@pytest.mark.parametrize(
    ("changes", "flags", "wanted"),
    [
        ({"kind": "scaling"}, ["--model=mlp"], "step of mlp"),
        ({"subject": "cnn"}, [], "step of mlp"),
        ({}, ["mine:build"], "step of mine:build"),
    ],
)
def test_a_file_about_another_kind_or_model_is_refused_at_once(
    changes: dict[str, Any],
    flags: list[str],
    wanted: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(tmp_path, dataclasses.replace(OUTCOME, **changes))
    assert main(["bench", *flags, f"--against={path}"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"`--against` must be a file about {wanted}. Received: a file about " in printed.err
    assert printed.err.count("\n") == 1
