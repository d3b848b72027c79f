"""Job files, as the arguments that they become and by the real command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfscale.launch.command import add_arguments, expanded

JOB = """
engine = "local"
num_workers = 2
detach = true
dry_run = false
hosts = ["a:1", "b:1"]
time_limit = "90s"
command = ["python", "train.py", "--epochs=2"]

[environment]
DATA = "/data with space"
SEED = 3

[local]
partition = "gpu"
"""


def written(folder: Path, text: str = JOB) -> str:
    path = folder / "job.toml"
    path.write_text(text)
    return f"--config={path}"


def test_flags_come_before_those_of_the_command_line(tmp_path: Path) -> None:
    config = written(tmp_path)
    assert expanded([config, "--num_workers=3"]) == [
        "--engine=local",
        "--num_workers=2",
        "--detach",
        "--hosts=a:1,b:1",
        "--time_limit=90s",
        "--env=DATA=/data with space",
        "--env=SEED=3",
        "--option=partition=gpu",
        config,
        "--num_workers=3",
        *("--", "python", "train.py", "--epochs=2"),
    ]


def test_a_list_of_a_repeated_flag_is_several_flags(tmp_path: Path) -> None:
    config = written(tmp_path, 'env = ["A=1", "B=2"]\noption = ["x=1", "y=2"]')
    flags = ["--env=A=1", "--env=B=2", "--option=x=1", "--option=y=2"]
    assert expanded([config]) == [*flags, config]


def test_a_second_file_is_refused(tmp_path: Path) -> None:
    config = written(tmp_path)
    with pytest.raises(ValueError, match=r"`--config` must be given once. Received: .*, other"):
        expanded([config, "--config=other.toml"])


def test_without_a_file_arguments_stay() -> None:
    assert expanded(["--num_workers=3"]) == ["--num_workers=3"]
    assert expanded(["--config"]) == ["--config"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("num_workers: 2", "`--config` must name a job file in TOML"),
        ("[Slurm]\nx = 1", r"tables are \[environment\] or engines \(local.* Received: \[Slurm\]"),
        ("command = 'python train.py'", "`command` must be a list of texts"),
        ("command = []", "`command` must be a list of texts"),
        ("hosts = [[1]]", r"`hosts` must be a text, a number, true or false. Received: \[1\]"),
        ("config = 'other.toml'", "`config` must be left out of a job file"),
        (
            "num_worker = 2",
            r"`num_worker` must be a flag .* in .*toml\. The nearest one is num_workers\.",
        ),
        ("num-workers = 2", r"The nearest one is num_workers\."),
        ("zzz = 2", "`tfscale launch --help` lists them"),
        ("slurm = 'gpu'", r"`slurm` must be a table .* Write a line \[slurm\]"),
        ("environment = 'A=1'", "`environment` must be a table"),
        ("detach = 'yes'", "`detach` must be true or false"),
        ("num_workers = true", "`num_workers` must be a value"),
        ("[environment]\nA = [1]", "`A` must be a text, a number, true or false"),
    ],
)
def test_what_a_job_file_cannot_say_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        expanded([written(tmp_path, text)])
    with pytest.raises(ValueError, match=r"`--config` must name .*\(No such file"):
        expanded([f"--config={tmp_path / 'none.toml'}"])


def test_a_job_runs_as_its_file_says(
    launch: Callable[..., Any], python: Callable[..., list[str]], tmp_path: Path
) -> None:
    code = "import os, sys; print(os.environ['WHO'], sys.argv[1:])"
    command = ", ".join(f"'{word}'" for word in python(code.replace("'", '"'), "a"))
    text = f"num_workers = 1\ncommand = [{command}]\n[environment]\nWHO = 'me'\n"
    config = written(tmp_path, text)
    assert launch(config).finish()[:2] == (0, "[worker 0] me ['a']\n")
    own = ("--env=WHO=you", "--num_workers=2", "--", *python(code))
    status, output, _ = launch(config, *own).finish()
    assert (status, sorted(output.splitlines())) == (0, ["[worker 0] you []", "[worker 1] you []"])


def test_every_switch_of_a_file_is_switched_off_by_a_flag(
    launch: Callable[..., Any], python: Callable[..., list[str]], tmp_path: Path
) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    switches = [name for name, value in vars(parser.parse_args([])).items() if value is False]
    assert sorted(switches) == ["detach", "dry_run", "skip_memory_check"]
    text = "\n".join(f"{name} = true" for name in switches)
    config = written(tmp_path, f"num_workers = 1\n{text}")
    off = [f"--{name}=false" for name in switches]
    status, output, errors = launch(config, *off, "--", *python("print('ran')")).finish()
    assert (status, output) == (0, "[worker 0] ran\n"), errors
    # --skip_memory_check is refused without --rendezvous: it is on here.
    two_off = [flag for flag in off if flag != "--skip_memory_check=false"]
    assert launch(config, *two_off, "--", *python("print('ran')")).finish()[0] == 2


def test_a_switch_is_true_or_false_and_the_last_one_counts() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser)
    assert parser.parse_args(["--detach=false", "--detach"]).detach is True
    assert parser.parse_args(["--detach=true", "--detach=false"]).detach is False
    with pytest.raises(argparse.ArgumentError, match=r"must be true or false\. Received: 'no'\."):
        parser.parse_args(["--detach=no"])


def test_a_wrong_flag_of_a_file_is_wrong_usage(launch: Callable[..., Any], tmp_path: Path) -> None:
    config = written(tmp_path, "num_worker = 2\ncommand = ['true']")
    status, _, errors = launch(config).finish()
    assert status == 2
    assert errors.startswith("tfscale launch: `num_worker` must be a flag of tfscale launch. Rec")
    assert f"num_worker = 2 in {tmp_path / 'job.toml'}. The nearest one is num_workers." in errors
    status, _, errors = launch(written(tmp_path, "=")).finish()
    assert (status, errors.count("\n")) == (2, 1)
