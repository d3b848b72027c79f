from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tfscale.report.made_up_monitor import Job, restarted, write_values
from tests.unit.tfscale.report.many_runs import sweep_run, write_runs
from tests.unit.tfscale.report.test_report_page import HOSTILE, Structure
from tfscale.__main__ import main
from tfscale.report.comparison import Column, differing, direction, equal, result_columns
from tfscale.report.json import write_run
from tfscale.report.page import render
from tfscale.report.record import RunRecord
from tfscale.report.runs import Run, names, read_runs
from tfscale.report.runs_page import runs_page


def run_of(name: str, record: RunRecord) -> Run:
    return Run(name, Path(name), record, [])


def column(runs: list[Run], name: str) -> Column:
    (found,) = [each for each in result_columns(runs) if each.name == name]
    return found


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["/x/a/run", "/x/b/run"], ["a/run", "b/run"]),
        (["/x/a/run", "/y/a/run", "/z/other"], ["x/a/run", "y/a/run", "other"]),
        (["/run", "/run/run"], ["//run", "run/run"]),
        (["/only"], ["only"]),
    ],
)
def test_names_are_the_shortest_ends_of_paths_that_differ(
    folders: list[str], expected: list[str]
) -> None:
    assert names([Path(each) for each in folders]) == expected


def test_last_and_best_values_and_the_best_run_of_a_column() -> None:
    runs = [
        run_of("a", RunRecord("t", history={"loss": [2.0, 0.5, 0.7], "accuracy": [0.1, 0.9, 0.8]})),
        run_of("b", RunRecord("t", history={"loss": [2.0, float("nan"), None], "rate": [1, 2, 3]})),
        run_of("c", RunRecord("t", history={"loss": [], "accuracy": []})),
        run_of("d", RunRecord("t")),
    ]
    last = column(runs, "loss, last")
    assert (last.cells, last.best) == (["0.7000", "nan", "-", "-"], [])
    lowest = column(runs, "loss, lowest")
    assert (lowest.cells, lowest.best) == (["0.5000", "2.000", "-", "-"], [0])
    assert column(runs, "accuracy, highest").values == [0.9, None, None, None]
    assert column(runs, "epochs").cells == ["3", "3", "0", "-"]
    # Whether more of it is better is not known.
    assert not [each for each in result_columns(runs) if each.name == "rate, highest"]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("loss", -1), ("val_mean_squared_error", -1), ("bits_per_byte", -1), ("perplexity", -1),
        ("val_sparse_categorical_accuracy", 1), ("auc_1", 1), ("mean_io_u", 1), ("f1", 1),
        ("learning_rate", 0), ("examples_per_second", 0), ("glossary", 0),
    ],
)  # fmt: skip
def test_the_direction_of_a_metric_is_known_by_its_words(metric: str, expected: int) -> None:
    assert direction(metric) == expected


def test_flags_that_differ_are_apart_from_those_that_are_equal() -> None:
    tables: list[dict[str, Any]] = [
        {"rate": 0.1, "seed": 0, "tpu": None},
        {"rate": 0.2, "seed": 0},
        {"seed": 0},
    ]
    found = {each.name: each.cells for each in differing(tables)}
    assert found == {"rate": ["0.1", "0.2", "-"], "tpu": ["-", "-", "-"]}
    assert equal(tables) == {"seed": 0}


def test_fifty_runs_are_one_small_page_with_eight_colours(tmp_path: Path) -> None:
    write_runs(tmp_path, 50, monitored=1)
    page = runs_page(read_runs(sorted(tmp_path.iterdir())))
    assert len(page) < 400_000
    structure = Structure(page)
    assert structure.open == []
    assert structure.text.startswith("50 runs50 runsrun-00, run-01, run-02, run-03 and 46 more")
    # A key in each of two tables, and a line in each of three charts.
    assert page.count('class="line rest" d="M2 4H22"') == 42 * 2
    assert "The 8 runs with the best val loss have colours" in page
    assert "Grey: 42 more" in page
    assert "learning_rate" in page
    assert "Kinds of time" in page


def test_what_a_user_wrote_does_not_become_markup() -> None:
    record = RunRecord(HOSTILE, history={HOSTILE: [1.0]}, configuration={HOSTILE: HOSTILE})
    other = RunRecord("b", results={HOSTILE: 2.0}, environment={"strategy": HOSTILE})
    structure = Structure(runs_page([run_of(HOSTILE, record), run_of("b", other)]))
    assert structure.open == []
    assert structure.tags.count("script") == 1
    assert "img" not in structure.tags


def test_several_folders_make_one_page_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_runs(tmp_path / "runs", 3, monitored=1)
    folders = sorted(map(str, (tmp_path / "runs").iterdir()))
    monkeypatch.chdir(tmp_path)
    assert main(["report", *folders]) == 0
    assert capsys.readouterr().out == "report: runs.html\n"
    assert main(["report", *folders, "--json", "--output=other.html"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"] == "other.html"
    assert [run["name"] for run in printed["runs"]] == ["run-00", "run-01", "run-02"]
    first = printed["runs"][0]
    assert first["results"]["loss, last"] == pytest.approx(sweep_run(0).history["loss"][-1])
    (monitor,) = first["monitor"]
    assert monitor["goodput"]["starts"] == 2
    assert monitor["stragglers"][0]["worker"] == 2
    assert printed["runs"][2]["monitor"] == []


def test_runs_without_an_epoch_are_shown(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_run(sweep_run(1, epochs=0), tmp_path / name / "run.json")
    page = runs_page(read_runs([tmp_path / "a", tmp_path / "b"]))
    assert "2 runs" in page
    assert "Curves" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "run"], "`RUN_DIR` must be different folders. Received: RUN_DIR="),
        (["run", "run/../run"], "twice. Give each run once."),
        (["run", "empty"], "`RUN_DIR` must contain one of run.json"),
        (["run", "nothing"], "`RUN_DIR` must be a folder"),
        (["run", "damaged"], "/damaged: `run.json` must be JSON"),
        (["many"], "with files of Monitor in 9 folders. Give the folders of the runs in it."),
        (["broken"], "/broken/monitor: `monitor-0.jsonl` must contain lines of JSON"),
        (["run", "broken"], "/broken/monitor: `monitor-0.jsonl` must contain lines of JSON"),
    ],
)
def test_folders_that_are_not_runs_give_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    for name in ("run", "empty", "damaged"):
        (tmp_path / name).mkdir()
    write_run(sweep_run(0), tmp_path / "run" / "run.json")
    (tmp_path / "damaged" / "run.json").write_text("{")
    for number in range(9):
        write_values(tmp_path / "many" / str(number), "loss_scale", [1.0])
    write_values(tmp_path / "broken" / "monitor", "loss_scale", [1.0])
    with (tmp_path / "broken" / "monitor" / "monitor-0.jsonl").open("a") as file:
        file.write('{"event": "other"}\n')
    output = tmp_path / "page.html"
    folders = [str(tmp_path / each) for each in arguments]
    assert main(["report", *folders, f"--output={output}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfscale report: ")
    assert words in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_a_run_that_left_only_files_of_monitor_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    restarted(tmp_path / "job" / "monitor")
    assert main(["report", str(tmp_path / "job"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["run"]["title"] == "job"
    (monitor,) = printed["monitor"]
    assert monitor["energy_joules"] == pytest.approx(119 * 60 - 60 * 1, abs=61)
    assert [each["repeated"] for each in monitor["restarts"]] == [30, 30, 30]
    page = (tmp_path / "job" / "report.html").read_text("utf-8")
    assert Structure(page).open == []
    assert len(set(Structure(page).values("id"))) == len(Structure(page).values("id"))
    text = Structure(page).text
    for words in (
        "effective training time", "starts2", "workers3", "The others waited for worker 2",
        "Most of the difference is compute.", "Every second of the job", "Phases of fit",
        "Restarts", "all2 min 23 s20.0 s77030", "host memory (GiB)", "energy, power (W)",
        "network (MiB/s)",
    ):  # fmt: skip
        assert words in text, words


def test_of_forty_workers_the_one_that_the_others_wait_for_is_shown_first(tmp_path: Path) -> None:
    restarted(tmp_path, lines=40, workers=40)
    (run,) = read_runs([tmp_path])
    page = render(run.record, run.monitors)
    assert len(page) < 1_000_000
    assert page.index("<span>worker 39</span>") < page.index("<span>worker 0</span>")
    assert page.index("Worker 39 (%") < page.index("Worker 0 (%")
    assert re.search(r"</svg>worker 39 <b>0.20\d+</b>", page)
    assert "and 8 more workers; --json has all" in page


def test_several_folders_of_monitor_have_titles_that_differ(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_values(tmp_path / name / "monitor", "loss_scale", [1.0])
    (run,) = read_runs([tmp_path])
    text = Structure(render(run.record, run.monitors)).text
    assert "Time in a/monitor" in text
    assert "Time in b/monitor" in text


def test_a_job_that_has_just_begun_is_shown(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.start()
    job.close()
    (run,) = read_runs([tmp_path])
    assert run.monitors[0].workers == {}
    assert "effective training time" in render(run.record, run.monitors)


def test_a_million_values_keep_every_spike_in_a_small_page(tmp_path: Path) -> None:
    # In small: the bins are 400 for any length.
    values: list[float | None] = [1.0 + 0.001 * (number % 7) for number in range(20_000)]
    values[12_345], values[3_000] = 97.5, -3.25
    write_values(tmp_path, "gradient_norm", values)
    (run,) = read_runs([tmp_path])
    page = render(run.record, run.monitors)
    assert len(page) < 600_000
    assert "12346" in page
    assert ",97.5," in page
    assert ",-3.25," in page
