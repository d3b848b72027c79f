"""The batch job with real processes, and with stand-ins for `srun` and `scontrol` on PATH.

A real Slurm is in tests/engines/slurm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.programs import ROOT, own_environment

# Starts the tasks of the step here, all on the host n1.
SRUN = """\
#!{python}
import os, subprocess, sys
arguments = sys.argv[1:]
flags = []
while arguments[0].startswith("--"):
    flags.append(arguments.pop(0))
if arguments == ["true"]:
    if os.path.exists("{folder}/silent"):
        sys.exit("srun: error: n1: Communication connection failure")
    sys.exit(0)
count = next(int(flag.partition("=")[2]) for flag in flags if flag.startswith("--ntasks="))
step = dict(SLURM_STEP_ID="0", SLURM_STEP_NUM_TASKS=str(count), SLURM_STEP_NODELIST="n1",
            SLURM_STEP_TASKS_PER_NODE=str(count), SLURMD_NODENAME="n1")
tasks = [
    subprocess.Popen(arguments, env=dict(os.environ, **step, SLURM_PROCID=str(index)))
    for index in range(count)
]
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """\
#!{python}
import os, signal, sys
match sys.argv[1:]:
    case ["show", "hostnames", *_]:
        print("n1")
    case ["show", "node", *_]:
        print("NodeName=n1 NodeAddr=127.0.0.1")
    case ["requeue", job]:
        open("{folder}/requeued", "a").write(job + " ")
        os.kill(os.getppid(), signal.SIGTERM)
"""

SQUEUE = "#!{python}\nprint('n1')\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("squeue", SQUEUE)):
        program = tmp_path / name
        program.write_text(text.format(python=sys.executable, folder=tmp_path))
        program.chmod(0o755)
    return tmp_path


def supervised(folder: Path, program: str, *flags: str, **variables: str) -> tuple[int, str]:
    """Runs a batch job of two workers; returns its exit status and what it said."""
    done = subprocess.run(
        (
            *(sys.executable, "-m", "tfscale.launch.engines.slurm.supervise"),
            *("--job_id=digits-1", f"--folder={folder}", f"--log_dir={folder}/logs"),
            *("--num_workers=2", "--early_seconds=0", *flags),
            *("--", sys.executable, "-c", textwrap.dedent(program)),
        ),
        cwd=ROOT,
        env=own_environment(
            PATH=f"{folder}:{os.environ['PATH']}",
            SLURM_JOB_ID="7",
            SLURM_JOB_NODELIST="n1",
            **variables,
        ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def starts_of(folder: Path, name: str = "starts.json") -> list[Any]:
    found = json.loads((folder / name).read_text())["starts"]
    assert isinstance(found, list)
    return [start["end"] and start["end"]["kind"] for start in found]


def test_each_worker_has_its_place_its_job_and_a_log(folder: Path) -> None:
    program = """
        import json, os
        task = json.loads(os.environ["TF_CONFIG"])["task"]
        print(task["type"], task["index"], os.environ["TFSCALE_JOB_ID"], end=" ")
        print(os.environ["TFSCALE_RESTART"], os.environ["TFSCALE_EXIT_REASON"])
    """
    status, said = supervised(folder, program, TF_CONFIG="of the shell that submitted")
    assert status == 0, said
    assert "every worker succeeded." in said
    for index in range(2):
        text = (folder / f"logs/worker-{index}.attempt-0.log").read_text()
        reason = folder / f"logs/worker-{index}.attempt-0.error.json"
        assert text == f"worker {index} digits-1 0 {reason}\n"
    assert json.loads((folder / "starts.json").read_text())["is_over"]


def test_a_failure_is_followed_by_a_start_until_none_is_left(folder: Path) -> None:
    program = "import os, sys; sys.exit(3 if os.environ['SLURM_PROCID'] == '1' else 0)"
    status, said = supervised(folder, program, "--max_restarts=1")
    assert status == 3, said
    assert starts_of(folder) == ["failed", "failed"]
    assert "worker 1 failed first: exit status 3" in said
    assert "not started again: 1 of 1 restarts are used." in said
    assert not (folder / "requeued").exists()


def test_workers_that_have_all_saved_are_requeued(folder: Path) -> None:
    status, said = supervised(folder, "raise SystemExit(42)")
    assert (folder / "requeued").read_text() == "7 ", said
    assert status == 42
    assert starts_of(folder) == ["preempted"]
    # The requeued job is the second start, and does not use up a restart.
    status, said = supervised(folder, "import os; print(os.environ['TFSCALE_RESTART'])")
    assert (status, starts_of(folder)) == (0, ["preempted", "succeeded"]), said
    assert (folder / "logs/worker-0.attempt-1.log").read_text() == "1\n"


@pytest.mark.thorough
def test_without_requeue_a_preempted_job_ends_with_its_status(folder: Path) -> None:
    status, said = supervised(folder, "raise SystemExit(42)", "--no_requeue")
    assert (status, (folder / "requeued").exists()) == (42, False), said
    assert "not started again: `requeue` is no." in said


@pytest.mark.thorough
def test_one_preempted_worker_beside_a_failed_one_is_a_failure(folder: Path) -> None:
    program = "import os, sys; sys.exit(42 if os.environ['SLURM_PROCID'] == '1' else 5)"
    status, said = supervised(folder, program)
    assert (status, starts_of(folder)) == (5, ["failed"]), said


@pytest.mark.thorough
def test_a_lost_host_requeues_the_job_without_a_restart(folder: Path) -> None:
    (folder / "silent").touch()
    supervised(folder, "raise SystemExit(1)")
    assert (folder / "requeued").read_text() == "7 "
    assert starts_of(folder) == ["host lost"]


@pytest.mark.thorough
def test_a_job_of_changing_size_is_requeued_if_too_few_hosts_are_left(folder: Path) -> None:
    program = f"open('{folder}/silent', 'w'); raise SystemExit(1)"
    flags = ("--least_workers=2", "--workers_per_host=2")
    _, said = supervised(folder, program, *flags)
    assert "start 0 on n1." in said
    assert "0 workers have hosts that answer, and 2 are needed." in said
    assert (folder / "requeued").read_text() == "7 "
    assert starts_of(folder) == ["host lost"]


@pytest.mark.thorough
def test_what_its_user_stopped_is_neither_requeued_nor_started_again(folder: Path) -> None:
    (folder / "stop").touch()
    status, said = supervised(folder, "raise SystemExit(42)", "--max_restarts=3")
    assert (status, starts_of(folder)) == (42, ["stopped"]), said
    assert not (folder / "requeued").exists()


@pytest.mark.thorough
def test_with_parameter_servers_the_job_ends_as_its_chief_does(folder: Path) -> None:
    program = """
        import json, os, sys, time
        task = json.loads(os.environ["TF_CONFIG"])["task"]
        print(task["type"], task["index"])
        time.sleep(0 if task["type"] == "chief" else 0.5)
        sys.exit(0 if task["type"] == "chief" else 15)  # as srun -K ends the others
    """
    status, said = supervised(folder, program, "--num_ps=1")
    assert (status, starts_of(folder)) == (0, ["succeeded"]), said
    assert (folder / "logs/chief.attempt-0.log").read_text() == "chief 0\n"
    assert (folder / "logs/worker-1.attempt-0.log").read_text() == "worker 1\n"
    assert (folder / "logs/ps-0.attempt-0.log").read_text() == "ps 0\n"


@pytest.mark.thorough
def test_a_member_of_an_array_is_a_job_of_its_own(folder: Path) -> None:
    program = "import os; print(os.environ['TFSCALE_JOB_ID'])"
    status, said = supervised(folder, program, SLURM_ARRAY_TASK_ID="3")
    assert status == 0, said
    assert (folder / "logs/array-3/worker-1.attempt-0.log").read_text() == "digits-1-array-3\n"
    assert starts_of(folder, "starts-array-3.json") == ["succeeded"]


def test_a_program_that_is_not_there_is_named_in_the_log(folder: Path) -> None:
    done = subprocess.run(
        (
            *(sys.executable, "-m", "tfscale.launch.engines.slurm.worker_task"),
            *(f"--log_dir={folder}", "--restart=0", "--", "no-such-program"),
        ),
        env=own_environment(),
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 127
    log = (folder / "worker-0.attempt-0.log").read_text()
    assert log == "cannot run 'no-such-program': No such file or directory\n"
