"""Jobs with a chief and parameter servers: which exits end the job, which tasks restart."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tfscale.launch import Outcome, launch_local_workers

BEGIN = """
import json, os, pathlib, signal, sys, time
config = json.loads(os.environ["TF_CONFIG"])
kind, index = config["task"]["type"], config["task"]["index"]
folder = pathlib.Path(sys.argv[1])
with (folder / f"{kind}-{index}").open("a") as file:
    file.write(os.environ["TFSCALE_RESTART"] + config["cluster"][kind][index] + "\\n")
def starts(task):
    try:
        return len((folder / task).read_text().splitlines())
    except FileNotFoundError:
        return 0
def await_starts(task, number):
    end = time.monotonic() + 120
    while starts(task) < number:
        assert time.monotonic() < end, task
        time.sleep(0.01)
for task in ("chief-0", "worker-0", "worker-1", "ps-0"):
    await_starts(task, 1 + int(os.environ["TFSCALE_RESTART"]))
def say(text):
    print(text, flush=True)
    (folder / f"{kind}-{index} has said").write_text("it\\n")
    for task in ("worker-0", "worker-1", "ps-0"):
        await_starts(task + " has said", 1)
"""
SERVE = "\nif kind != 'chief': time.sleep(600)\n"


def launch(folder: Path, program: str, **arguments: Any) -> tuple[Outcome, str]:
    output = io.BytesIO()
    outcome = launch_local_workers(
        [sys.executable, "-c", BEGIN + program, str(folder)],
        2,
        num_ps=1,
        grace_seconds=5,
        output=output,
        **arguments,
    )
    return outcome, output.getvalue().decode()


def test_the_end_of_the_chief_ends_the_job_well(tmp_path: Path) -> None:
    outcome, output = launch(tmp_path, "say('hello')" + SERVE)
    assert outcome.status == 0
    assert sorted(output.splitlines()) == [
        "[chief] hello",
        "[ps 0] hello",
        "[worker 0] hello",
        "[worker 1] hello",
    ]


def test_every_task_gets_the_same_cluster_and_its_own_place(tmp_path: Path) -> None:
    _, output = launch(tmp_path, "say(json.dumps(config['cluster']))" + SERVE)
    (cluster,) = {line.partition("] ")[2] for line in output.splitlines()}
    assert re.fullmatch(
        r'\{"chief": \["[^"]+"\], "worker": \["[^"]+", "[^"]+"\], "ps": \["[^"]+"\]\}', cluster
    )
    assert len(set(re.findall(r":(\d+)", cluster))) == 4


def test_the_status_of_the_job_is_the_chiefs(tmp_path: Path) -> None:
    outcome, _ = launch(tmp_path, SERVE + "sys.exit(7)")
    assert outcome.status == 7
    assert str(outcome).startswith("chief failed first: exit status 7 after")


def test_a_killed_worker_comes_back_alone_where_it_was(tmp_path: Path) -> None:
    killed = "if kind == 'worker' and index == 1 and starts('worker-1') == 1:\n"
    killed += "    os.kill(os.getpid(), signal.SIGKILL)\n"
    chief = "await_starts('worker-1', 2)"
    outcome, _ = launch(tmp_path, killed + SERVE + chief, max_restarts=1)
    assert (outcome.status, outcome.restarts) == (0, 0)
    first, second = (tmp_path / "worker-1").read_text().splitlines()
    assert first == second  # the same port, and in the same start of the job
    assert len((tmp_path / "chief-0").read_text().splitlines()) == 1


def test_without_restarts_a_killed_worker_ends_the_job(tmp_path: Path) -> None:
    killed = "if kind == 'worker' and index == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
    outcome, _ = launch(tmp_path, killed + SERVE + "time.sleep(600)")
    assert outcome.status == 128 + 9
    assert str(outcome).startswith("worker 1 failed first: killed by SIGKILL")


@pytest.mark.parametrize("lost", ["ps", "chief"])
def test_a_killed_server_or_chief_starts_the_whole_job_again(tmp_path: Path, lost: str) -> None:
    program = f"if kind == '{lost}' and os.environ['TFSCALE_RESTART'] == '0':\n"
    program += "    os.kill(os.getpid(), signal.SIGKILL)\n"
    program += SERVE + "if os.environ['TFSCALE_RESTART'] == '0': time.sleep(600)"
    outcome, _ = launch(tmp_path, program, max_restarts=1)
    assert (outcome.status, outcome.restarts) == (0, 1)
    for task in ("chief-0", "worker-0", "worker-1", "ps-0"):
        starts = (tmp_path / task).read_text().splitlines()
        assert [start[0] for start in starts] == ["0", "1"]


@pytest.mark.parametrize("num_ps", [-1, True, 1.5])
def test_an_impossible_number_of_servers_is_refused(num_ps: Any) -> None:
    with pytest.raises(ValueError, match=r"`num_ps` must be an integer, at least 0"):
        launch_local_workers(["true"], 1, num_ps=num_ps)
