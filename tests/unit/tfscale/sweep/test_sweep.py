"""`tfscale sweep`: real processes, against optuna itself on a closed form."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.programs import completed, started
from tests.unit.tfscale.sweep.sweep_program import STEPS, value_at
from tests.waiting import until
from tfscale.__main__ import main

optuna = pytest.importorskip("optuna")

PROGRAM = str(Path(__file__).with_name("sweep_program.py"))
VARIED = ("--float", "x=0..1", "--choice", "by=a,b", "--goal=loss", "--direction=minimize")


def sweep(folder: Path, *flags: str, command: tuple[str, ...] = ()) -> list[str]:
    words = command or (sys.executable, "-I", "-S", PROGRAM)
    return ["sweep", *VARIED, f"--folder={folder}", *flags, "--", *words]


def found(text: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(text)
    result["trials"].sort(key=lambda trial: trial["trial"])
    return result


def tried(result: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(each["state"], each["flags"], each["value"]) for each in result["trials"]]


def by_optuna(trials: int, seed: int) -> list[tuple[str, Any, Any]]:
    """What optuna itself tries and prunes, in this process."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="sweep", pruner=optuna.pruners.MedianPruner())

    def objective(trial: Any) -> float:
        x, by = trial.suggest_float("x", 0, 1), trial.suggest_categorical("by", ["a", "b"])
        for step in range(1, STEPS + 1):
            trial.report(value_at(step, x, by), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value_at(STEPS, x, by)

    for number in range(trials):
        own = np.random.SeedSequence([seed, number]).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(seed=int(own))
        study.optimize(objective, n_trials=1)
    states = {"COMPLETE": "complete", "PRUNED": "pruned"}
    return [
        (
            states[trial.state.name],
            trial.params,
            trial.value if trial.state.name == "COMPLETE" else None,
        )
        for trial in study.trials
    ]


def test_values_and_pruned_trials_are_those_of_optuna_also_when_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = by_optuna(14, seed=9)
    assert {state for state, _, _ in expected} == {"complete", "pruned"}
    assert main(sweep(tmp_path, "--trials=6", "--seed=9", "--json")) == 0
    assert tried(found(capsys.readouterr().out)) == expected[:6]
    assert main(sweep(tmp_path, "--trials=14", "--seed=9", "--json")) == 0
    result = found(capsys.readouterr().out)
    assert tried(result) == expected
    best = min((value, k) for k, (_, _, value) in enumerate(expected) if value is not None)
    assert (result["best"]["value"], result["best"]["trial"]) == best
    flags = expected[best[1]][1]
    assert result["command"].endswith(f"{PROGRAM} --x={flags['x']!r} --by={flags['by']}")


def test_a_pruned_trial_that_ignores_sigterm_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (sys.executable, "-I", "-S", PROGRAM, "--end=hang")
    arguments = sweep(tmp_path, "--trials=6", "--grace_seconds=0.1", "--json", command=command)
    assert main(arguments) == 0
    last = found(capsys.readouterr().out)["trials"][5]
    assert last["state"] == "pruned"
    assert not is_running(tmp_path / "trial-0005")


def test_a_failed_trial_is_recorded_with_its_last_lines_and_the_sweep_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (sys.executable, "-I", "-S", PROGRAM, "--end=fail")
    assert main(sweep(tmp_path, "--trials=8", "--pruner=none", command=command)) == 0
    printed = capsys.readouterr()
    assert "failed: ended with status 1: some output | x is too large for this" in printed.err
    study = optuna.load_study(
        study_name="sweep",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.log"))
        ),
    )
    states = [(trial.state.name, trial.params["x"] > 0.55) for trial in study.trials]
    assert set(states) == {("COMPLETE", False), ("FAIL", True)}
    assert printed.out.count("x is too large for this program") == states.count(("FAIL", True))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"loss": Infinity}\n', "loss is inf"),
        ('{"loss": 1}', "nothing and a line without a newline at its end"),
    ],
)
def test_a_value_that_does_not_count_fails_its_trial(
    text: str, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = f"import os; open(os.environ['TFSCALE_TRIAL'], 'a').write({text!r})"
    command = (sys.executable, "-I", "-S", "-c", program)
    assert main(sweep(tmp_path, "--trials=1", "--json", command=command)) == 1
    (only,) = found(capsys.readouterr().out)["trials"]
    assert only["state"] == "failed"
    assert error in only["error"]


def test_the_error_of_a_trial_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = r"print('\033[31mred\033[0m\a \033[2Jcleared'); raise SystemExit(3)"
    command = (sys.executable, "-I", "-S", "-c", program)
    assert main(sweep(tmp_path, "--trials=1", "--json", command=command)) == 1
    (only,) = found(capsys.readouterr().out)["trials"]
    assert only["error"].endswith("red cleared")


def test_three_failures_at_the_start_end_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = (sys.executable, "-I", "-S", "-c", "")
    assert main(sweep(tmp_path, command=silent)) == 1
    printed = capsys.readouterr()
    assert "the first 3 trials all failed, the last one because it has not reported 'loss'" in (
        printed.err
    )
    assert printed.out.count("failed") == 3


def test_a_killed_sweep_leaves_no_process_and_continues_its_trial(tmp_path: Path) -> None:
    command = (sys.executable, "-I", "-S", PROGRAM, "--end=wait", "--in=trial-0001")
    arguments = sweep(tmp_path, "--trials=3", "--json", command=command)
    process = started("-m", "tfscale", *arguments)
    try:
        second = tmp_path / "trial-0001"
        until(lambda: lines(second / "reports.jsonl") >= 2, 240, lambda: process.poll())
        process.kill()
        process.communicate(timeout=240)
        until(lambda: not is_running(second), 240, lambda: process.poll())
    finally:
        process.kill()
    before = lines(second / "reports.jsonl")
    with (second / "reports.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')  # what a write that was cut off leaves
    with (tmp_path / "optuna.log").open("a") as file:
        file.write('{"op_code": 6, "work')
    (tmp_path / "go").touch()
    done = completed("-m", "tfscale", *arguments, timeout=400)
    assert done.returncode == 0, done.stderr
    assert tried(found(done.stdout)) == by_optuna(3, seed=0)
    assert "trial 1 of 3" in done.stderr
    assert "trial 0 of 3" not in done.stderr
    assert lines(second / "reports.jsonl") == before + STEPS


@pytest.mark.thorough
def test_control_c_ends_trials_and_the_same_command_continues(tmp_path: Path) -> None:
    command = (sys.executable, "-I", "-S", PROGRAM, "--end=wait", "--in=trial-0000")
    arguments = sweep(tmp_path, "--trials=1", "--json", command=command)
    process = started("-m", "tfscale", *arguments)
    try:
        until(
            lambda: lines(tmp_path / "trial-0000/reports.jsonl") >= 1, 240, lambda: process.poll()
        )
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "The same command continues" in printed
    assert not is_running(tmp_path / "trial-0000")
    (tmp_path / "go").touch()
    done = completed("-m", "tfscale", *arguments, timeout=400)
    assert tried(found(done.stdout)) == by_optuna(1, seed=0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux assigns CPUs to processes")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU cannot be divided")
def test_trials_at_once_have_different_cpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (
        "import json, os, pathlib, time\n"
        "print(sorted(os.sched_getaffinity(0)), flush=True)\n"
        "file = pathlib.Path(os.environ['TFSCALE_TRIAL'])\n"
        "while len([p for p in file.parents[1].glob('*/output.log') if p.stat().st_size]) < 2:\n"
        "    time.sleep(0.01)\n"
        "file.write_text(json.dumps({'loss': 0}) + '\\n')\n"
    )
    command = (sys.executable, "-I", "-S", "-c", source)
    flags = ("--trials=2", "--jobs=2", "--trial_seconds=600", "--json")
    assert main(sweep(tmp_path, *flags, command=command)) == 0
    assert [each["state"] for each in found(capsys.readouterr().out)["trials"]] == ["complete"] * 2
    first, second = (
        json.loads((tmp_path / f"trial-000{k}/output.log").read_text()) for k in range(2)
    )
    usable = os.sched_getaffinity(0)
    assert len(first) == len(second) == len(usable) // 2
    assert set(first) | set(second) <= usable
    assert not set(first) & set(second)


def test_a_grid_is_tried_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        "import json, os, sys\n"
        "line = json.dumps({'loss': int(sys.argv[1]) + len(sys.argv[2])})\n"
        "open(os.environ['TFSCALE_TRIAL'], 'a').write(line + '\\n')\n"
    )
    flags = ("--int", "n=1..5:2", "--choice", "by=a,bb", "--goal=loss", "--direction=maximize")
    command = (sys.executable, "-I", "-S", "-c", source, "{n}", "{by}")
    more = (f"--folder={tmp_path}", "--sampler=grid", "--json")
    arguments = ["sweep", *flags, *more, "--", *command]
    assert main(arguments) == 0
    result = found(capsys.readouterr().out)
    points = sorted((each["flags"]["n"], each["flags"]["by"]) for each in result["trials"])
    assert points == [(n, by) for n in (1, 3, 5) for by in ("a", "bb")]
    assert result["best"]["flags"] == {"n": 5, "by": "bb"}
    assert result["best"]["value"] == 7
    assert main([arguments[0], "--trials=7", *arguments[1:]]) == 2
    assert "`--trials` must be at most 6 with --sampler=grid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seed=1",), "`--seed` must be as in the sweep in"),
        (("--int", "n=1..2"), "the flags to vary must be as in the sweep"),
        (("--pruner=none",), "`--pruner` must be as in the sweep"),
        (("--jobs=10000",), "`--jobs` must be at most"),
    ],
)
def test_another_sweep_in_the_same_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert main(sweep(tmp_path, "--trials=1")) == 0
    assert main(sweep(tmp_path, "--trials=2", *flags)) == 2
    assert message in capsys.readouterr().err


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def is_running(folder: Path) -> bool:
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.thorough
def test_workers_of_a_trial_are_launched_and_the_first_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (
        "import json, os, sys, time\n"
        "task = json.loads(os.environ['TF_CONFIG'])\n"
        "print('of', len(task['cluster']['worker']))\n"
        "if task['task']['index'] == 0:\n"
        "    line = json.dumps({'loss': float(sys.argv[1].split('=')[1])})\n"
        "    open(os.environ['TFSCALE_TRIAL'], 'a').write(line + '\\n')\n"
    )
    command = (sys.executable, "-c", source)
    assert main(sweep(tmp_path, "--trials=2", "--num_workers=2", "--json", command=command)) == 0
    result = found(capsys.readouterr().out)
    assert [each["value"] for each in result["trials"]] == [
        each["flags"]["x"] for each in result["trials"]
    ]
    assert "[worker 1] of 2" in (tmp_path / "trial-0001/output.log").read_text()


@pytest.mark.thorough
def test_the_image_recipe_is_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = (sys.executable, "-m", "recipes.image_classification", "--train_epochs=2")
    flags = ("--log", "learning_rate=1e-4..1e-1", "--goal=val_accuracy", "--direction=maximize")
    own = (f"--folder={tmp_path}", "--trials=2", "--json")
    arguments = ["sweep", *flags, *own, "--", *command, "--validation=0.2"]
    assert main(arguments) == 0
    result = found(capsys.readouterr().out)
    for each in result["trials"]:
        summary = json.loads((Path(each["folder"]) / "summary.json").read_text())
        assert each["value"] == pytest.approx(summary["history"]["val_accuracy"][-1])
        assert summary["flags"]["learning_rate"] == each["flags"]["learning_rate"]
        assert each["last_step"] == 2


def test_trials_without_their_journal_are_not_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(sweep(tmp_path, "--trials=1")) == 0
    for empty in (False, True):
        (tmp_path / "optuna.log").unlink()
        if empty:
            (tmp_path / "optuna.log").touch()
        assert main(sweep(tmp_path, "--trials=1")) == 2
        assert "trial-0000, but optuna.log has no study" in capsys.readouterr().err


def test_no_room_and_a_damaged_journal_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patches:
        patches.setattr("tfscale.sweep.running.run_trials", full)
        assert main(sweep(tmp_path)) == 2
    written = f"{tmp_path} could not be written: No space left on device. Make room there"
    assert written in capsys.readouterr().err
    for line in (b"[]", b'{"op_code": 99}', b"\x94"):
        (tmp_path / "optuna.log").write_bytes(line + b"\n")
        assert main(sweep(tmp_path)) == 2
        assert "must have a journal of optuna that can be read" in capsys.readouterr().err
