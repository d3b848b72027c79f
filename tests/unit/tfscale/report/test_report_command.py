from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs import ROOT, completed, own_environment
from tests.stock_keras import DISTRIBUTION
from tests.unit.tfscale.report import report_runs
from tfscale.__main__ import main
from tfscale.report.directory import read_directory
from tfscale.report.json import from_json, write_run
from tfscale.report.page import render

# As the recipe image_classification writes it.
SUMMARY = {
    "test_accuracy": 0.9944,
    "test_loss": 0.02,
    "training_seconds": 42.3,
    "total_seconds": 50.0,
    "num_replicas": 2,
    "flags": {"dataset": "digits", "num_replicas": 2, "tpu": None, "augment": True},
    "history": {"loss": [1.5, 0.5], "accuracy": [0.5, 0.9]},
}


def write(path: Path, value: Any) -> None:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def test_a_run_is_shown_from_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(report_runs.ordinary(), tmp_path / "run.json")
    write(tmp_path / "summary.json", "not looked at")
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'report.html'}\n"
    assert (tmp_path / "report.html").read_text("utf-8") == render(report_runs.ordinary())


def test_json_contains_the_run_and_the_path_of_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(report_runs.ordinary(), tmp_path / "run.json")
    output = tmp_path / "elsewhere.html"
    assert main(["report", str(tmp_path), "--output", str(output), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"] == str(output)
    assert from_json(json.dumps(printed["run"])) == report_runs.ordinary()
    assert output.exists()
    assert not (tmp_path / "report.html").exists()


def test_a_page_replaces_only_an_earlier_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, page = tmp_path / "run.json", tmp_path / "page.html"
    write_run(report_runs.ordinary(), record)
    before = record.read_bytes()
    assert main(["report", str(tmp_path), "--output", str(record)]) == 2
    assert "`output` must be a new file or an earlier page" in capsys.readouterr().err
    assert record.read_bytes() == before
    for _ in range(2):
        assert main(["report", str(tmp_path), "--output", str(page)]) == 0


def test_a_run_without_a_record_is_shown_from_its_summary(tmp_path: Path) -> None:
    write(tmp_path / "summary.json", SUMMARY)
    run = read_directory(tmp_path)
    assert run.title == "digits"
    assert run.results == {"test_accuracy": 0.9944, "test_loss": 0.02, "num_replicas": 2}
    assert (run.timing.total_seconds, run.timing.training_seconds) == (50.0, 42.3)
    assert run.configuration == SUMMARY["flags"]
    assert run.history == {"loss": (1.5, 0.5), "accuracy": (0.5, 0.9)}
    assert run.notes == ("Read from summary.json: this run left no run.json.",)


def test_the_history_of_a_resumed_run_is_read_from_the_csv_of_keras(tmp_path: Path) -> None:
    # CSVLogger counts epochs from 0, and writes NA where an epoch has no validation.
    lines = "epoch,loss,val_loss\n4,1.5,NA\n5,nan,1.25\n"
    write(tmp_path / "history.csv", lines)
    run = read_directory(tmp_path)
    assert run.title == tmp_path.name
    assert run.first_epoch == 5
    assert run.history["val_loss"] == (None, 1.25)
    assert repr(run.history["loss"]) == "(1.5, nan)"


def test_predictions_become_a_confusion(tmp_path: Path) -> None:
    with (tmp_path / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("example", "label", "prediction"), (0, 10, 10), (1, 10, 9), (2, "a, b", 10)]
        )
    confusion = read_directory(tmp_path).confusion
    assert confusion is not None
    assert confusion.labels == ("9", "10", "a, b")  # Numbers in their order, then names.
    assert confusion.matrix == ((0, 0, 0), (1, 1, 0), (0, 1, 0))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("other.txt", "", "must contain one of run.json, summary.json, history.json"),
        ("run.json", "{", "`run.json` must be JSON"),
        ("summary.json", "[1]", "`summary.json` must be a JSON object. Received: list"),
        ("summary.json", '{"history": [1]}', "`history` must be a mapping from names to values"),
        ("summary.json", '{"confusion": {"rows": 1}}', "must contain files as a run writes them"),
        ("summary.json", '{"history": {"loss": ["low"]}}', "`history` must contain numbers"),
        ("summary.json", '{"total_seconds": -1}', "`total_seconds` must be finite"),
        ("history.csv", "epoch,loss\n", "and a line below their names"),
        ("history.csv", "step,loss\n1,2\n", "must have the columns epoch"),
        ("history.csv", "epoch,loss\n0,1\n0,1\n", "must contain consecutive epochs"),
        ("history.csv", "epoch,loss\n0,low\n", "must contain numbers. Received: 'low' in line 2"),
        ("predictions.csv", "label\n1\n", "the columns label, prediction"),
    ],
)
def test_unreadable_input_gives_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str
) -> None:
    write(tmp_path / name, text)
    assert main(["report", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("tfscale report: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_missing_folder_gives_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "no/such/folder"]) == 2
    assert "`RUN_DIR` must be a folder. Received: RUN_DIR='no/such/folder'" in (
        capsys.readouterr().err
    )


def test_an_empty_name_is_not_the_current_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", ""])
    assert ended.value.code == 2
    assert "must name a folder. Received: ''." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("no/a.html", "No such file or directory. Make its folder, or name another place."),
        ("folder", "it is a folder, not a file."),
        ("link", "it is a link to {}/run/summary.json; name the target, or remove the link."),
        ("dangling", "it is a link to {}/nothing; name the target, or remove the link."),
        ("fifo", "it is a FIFO, not a file."),
        ("run/summary.json/a.html", "Not a directory."),
        ("x" * 300, "File name too long."),
        ("/dev/full", "No space left on device."),
    ],
)
def test_a_page_that_cannot_be_written_gives_one_line_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, words: str
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write(run / "summary.json", SUMMARY)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(run / "summary.json")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "fifo")
    before = {path: path.lstat().st_ino for path in sorted(tmp_path.rglob("*"))}
    assert main(["report", str(run), "--output", str(tmp_path / output)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tfscale report: {tmp_path / output} could not be written: ")
    assert words.format(tmp_path) in error
    assert error.count("\n") == 1
    assert {path: path.lstat().st_ino for path in sorted(tmp_path.rglob("*"))} == before
    assert json.loads((run / "summary.json").read_text()) == SUMMARY


def test_a_page_is_written_to_a_device_without_replacing_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "summary.json", SUMMARY)
    device = Path("/dev/null")
    assert main(["report", str(tmp_path), "--output", str(device)]) == 0
    assert device.is_char_device()
    assert main(["report", str(tmp_path), "--output", "/dev/stdout"]) == 0
    page = capfd.readouterr().out
    assert page == render(read_directory(tmp_path))


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("flags", [["report", "{}"], ["--help"]])
def test_an_output_that_cannot_be_written_gives_one_line_and_status_2(
    tmp_path: Path, flags: list[str], unbuffered: str
) -> None:
    write(tmp_path / "summary.json", SUMMARY)
    command = [sys.executable, "-m", "tfscale", *(f.format(tmp_path) for f in flags)]
    closed, pipe = os.pipe()
    os.close(closed)  # as after `| head`
    for output, reason in ((pipe, "Broken pipe"), ("/dev/full", "No space left on device")):
        with open(output, "wb") as stream:  # noqa: PTH123  (one is a descriptor)
            done = subprocess.run(
                command,
                stdout=stream,
                stderr=subprocess.PIPE,
                text=True,
                env=own_environment(PYTHONUNBUFFERED=unbuffered),
                timeout=300,
            )
        assert done.returncode == 2
        assert done.stderr.endswith(f": standard output could not be written: {reason}.\n")
        assert done.stderr.count("\n") == 1


def test_a_path_that_is_not_utf_8_is_read_written_and_printed_unchanged(tmp_path: Path) -> None:
    run = os.fsencode(tmp_path) + b"/r\xff\xfen"
    os.mkdir(run)  # noqa: PTH102  (bytes)
    write(Path(os.fsdecode(run)) / "summary.json", SUMMARY | {"flags": {}})
    done = subprocess.run(
        [sys.executable, "-m", "tfscale", "report", run], capture_output=True, cwd=ROOT, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"report: " + run + b"/report.html\n"
    page = Path(os.fsdecode(run)) / "report.html"
    assert r"<h1>r\udcff\udcfen</h1>" in page.read_text("utf-8")


# One process, because importing TensorFlow takes longer than both checks.
LOOK = """
import json, sys
import strategies
from tfscale.__main__ import main
from tfscale.report.run_environment import environment

assert main(["report", sys.argv[1]]) == 0
heavy = sorted({"tensorflow", "keras", "numpy"} & set(sys.modules))
found = environment(strategies.mirrored_strategy(num_replicas=2))
print(json.dumps([heavy, found]))
"""


def test_the_environment_is_described_and_a_page_needs_no_tensorflow(tmp_path: Path) -> None:
    write(tmp_path / "summary.json", SUMMARY)
    done = completed("-c", LOOK, str(tmp_path), timeout=300)
    assert done.returncode == 0, done.stderr
    heavy, found = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    assert found["strategy"] == "MirroredStrategy"
    assert (found["replicas"], found["workers"]) == (2, 1)
    assert found["devices"] == "1 CPU"
    assert found["precision"] == "float32"
    assert found["python"] == sys.version.split()[0]
    assert {DISTRIBUTION, "processor cores", "system"} <= set(found)
