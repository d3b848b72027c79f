"""Flags and reports of a sweep, without processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tfscale.__main__ import main
from tfscale.sweep import report_trial
from tfscale.sweep.reports import Reports
from tfscale.sweep.space import parsed

GOAL = ("--goal=loss", "--direction=minimize")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--log", "a=0..1"), "argument --log: must be NAME=LOW..HIGH with LOW above 0"),
        (("--log", "a=1..1"), "argument --log: must be NAME=LOW..HIGH with LOW below HIGH"),
        (("--float", "a=1"), "--float: must be NAME=LOW..HIGH with two finite numbers"),
        (
            ("--float", "a=nan..1"),
            "--float: must be NAME=LOW..HIGH with two finite numbers",
        ),
        (("--float", "=1..2"), "argument --float: must be NAME=LOW..HIGH. Received: '=1..2'"),
        (("--int", "a=1.5..2"), "argument --int: must be NAME=LOW..HIGH with two whole numbers"),
        (("--int", "a=1..6:2"), "argument --int: must be NAME=LOW..HIGH:STEP"),
        (("--choice", "a=1"), "argument --choice: must be NAME=A,B,C with at least two"),
        (("--choice", "folder=a,b"), "argument --choice: must be NAME=A,B,C. Received: 'folder"),
        ((), "At least one of --float, --log, --int, --log_int, --choice must be given"),
        (("--int", "a=1..2", "--choice", "a=1,2"), "must vary each flag once. Received: a twice"),
        (("--int", "given=1..2"), "`--int` must vary a flag that the command does not have"),
        (("--log", "a=1..2", "--sampler=grid"), "`--sampler=grid` must come with --choice and"),
        (("--int", "a=1..2", "--trials=0"), "argument --trials"),
        # Not exact as float64, of which one is tried and another is in the table.
        (("--int", "a=1..9007199254740993"), "two whole numbers between -2**53 and 2**53"),
        (("--log_int", "a=1..1" + 400 * "0"), "two whole numbers between -2**53 and 2**53"),
        (("--int", "a=1_0..2_0"), "two whole numbers"),
        (("--float", "a=٣..٩"), "two finite numbers"),
        (("--float", "a=-1e308..1e308"), "LOW below HIGH, and a finite difference"),
        (("--int", "a=1..999999999", "--sampler=grid"), "flags of at most 100,000 values"),
        (("--int", "a=1..999", "--int", "b=1..999", "--sampler=grid"), "Received: 998,001."),
        (("--int", "a=1..2", "--goal="), "`--goal` must be the name of a value"),
        (("--int", "a=1..2", "--goal=step"), "`--goal` must be the name of a value"),
        (("--int", "a=1..2", "--folder=gs://bucket/a"), "`--folder` must be a local folder"),
    ],
)
def test_wrong_flags_are_named(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    try:
        status: object = main(["sweep", *GOAL, *flags, "--", "program", "--given=3"])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["python", "-m", "recipes.image_classification", "--model_dir=x"], "`--model_dir` must"),
        ([""], "`command` must begin with a program"),
    ],
)
def test_wrong_commands_are_named(
    capsys: pytest.CaptureFixture[str], command: list[str], message: str
) -> None:
    assert main(["sweep", "--int", "a=1..2", *GOAL, "--", *command]) == 2
    assert message in capsys.readouterr().err


def test_values_of_every_kind_are_within_their_ranges() -> None:
    optuna = pytest.importorskip("optuna")
    texts = {"float": "a=0..1", "log": "a=1e-3..1", "int": "a=4..8:2", "log_int": "a=1..64"}
    for kind, text in texts.items():
        axis = parsed(kind, text)
        distribution = axis.distribution()
        assert (distribution.low, distribution.high) == (axis.low, axis.high)
        assert distribution.log is kind.startswith("log")
    assert parsed("int", "a=4..8:2").values() == [4, 6, 8]
    choice = parsed("choice", "a=1,b").distribution()
    assert choice == optuna.distributions.CategoricalDistribution(("1", "b"))


def test_reports_are_read_line_by_line_while_they_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "reports.jsonl"
    reports = Reports(file, "loss")
    assert reports.new_steps() == []
    monkeypatch.setenv("TFSCALE_TRIAL", str(file))
    assert report_trial({"loss": 2.0, "accuracy": 0.5}, step=1)
    assert report_trial({"accuracy": 0.6}, step=2)
    with file.open("a") as rest:
        rest.write('{"step": 3, "lo')
    assert reports.new_steps() == [(1, 2.0)]
    with file.open("a") as rest:
        rest.write('ss": 1.5}\n')
    assert reports.new_steps() == [(3, 1.5)]
    assert report_trial({"loss": float("inf")}, step=3)  # the same step again, after a restart
    assert reports.new_steps() == []
    assert report_trial({"loss": 1.25})
    assert reports.new_steps() == []
    assert reports.value == 1.25
    assert list(reports.names) == ["loss", "accuracy"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("loss 3", "line 2 of .* must be an object of numbers"),
        ('{"loss": "3"}', "line 2 of .* must be an object of numbers"),
        ("[3]", "line 2 of .* must be an object of numbers"),
        ('{"loss": true}', "line 2 of .* must be an object of numbers"),
        ('{"step": 1.5, "loss": 3}', 'whose "step" is a whole number'),
        ('{"step": -1, "loss": 3}', 'whose "step" is a whole number'),
        ('{"step": NaN, "loss": 3}', 'whose "step" is a whole number'),
        ('{"step": 1' + 400 * "0" + ', "loss": 3}', 'whose "step" is a whole number'),
        (100_000 * "[", "must be an object of numbers"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "reports.jsonl"
    file.write_text(json.dumps({"loss": 1}) + f"\n{line}\n")
    with pytest.raises(ValueError, match=message):
        Reports(file, "loss").new_steps()


def test_a_whole_number_of_many_digits_is_infinite(tmp_path: Path) -> None:
    file = tmp_path / "reports.jsonl"
    file.write_text('{"loss": 1' + 400 * "0" + "}\n")
    reports = Reports(file, "loss")
    assert reports.new_steps() == []
    assert reports.value == float("inf")


def test_a_file_that_is_written_again_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "reports.jsonl"
    reports = Reports(file, "loss")
    file.write_text('{"step": 1, "loss": 0.1}\n')
    assert reports.new_steps() == [(1, 0.1)]
    file.write_text('{"step": 2, "loss": 0.2}\n')  # as long as before
    with pytest.raises(ValueError, match=r"must only grow.*Open it to append"):
        reports.new_steps()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="seek"):
        Reports(tmp_path / "fifo", "loss").new_steps()


@pytest.mark.parametrize("values", [{"loss": "high"}, {"step": 1.0}, {1: 2.0}, {"": 1.0}, [1.0]])
def test_wrong_values_are_refused_also_outside_of_a_trial(values: object) -> None:
    with pytest.raises(ValueError, match="`values` must be"):
        report_trial(values)  # type: ignore[arg-type]
