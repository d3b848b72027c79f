"""`tfscale jobs`, with real jobs in the background of this host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import waiting
from tests.ports import free_ports
from tests.programs import completed

SLEEPER = (
    "import faulthandler, os, signal, time; faulthandler.register(signal.SIGUSR2); "
    "waiting = lambda: (print('runs in', os.getcwd(), os.environ['TFSCALE_JOB_ID'], flush=True), "
    "time.sleep(3600)); waiting()"  # from its line on it is in that function
)
Tfscale = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tfscale(tmp_path: Path) -> Tfscale:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {"TFSCALE_JOBS_DIR": str(tmp_path / "jobs")}
        return completed("-m", "tfscale", *arguments, timeout=240, **variables)

    return run


def submitted(tfscale: Tfscale, *arguments: str) -> str:
    done = tfscale("launch", "--detach", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"Stop it: tfscale jobs stop {done.stdout.strip()}." in done.stderr
    return done.stdout.strip()


def until(condition: Callable[[], bool]) -> None:
    waiting.until(condition, 240.0, lambda: "not in time", every=0.1)


def values(tfscale: Tfscale, job: str) -> dict[str, Any]:
    found = json.loads(tfscale("jobs", "status", job, "--json").stdout)
    assert isinstance(found, dict)
    return found


def test_a_job_is_listed_watched_and_stopped(tfscale: Tfscale, tmp_path: Path) -> None:
    python = [sys.executable, "-S", "-c", SLEEPER]
    job = submitted(tfscale, "--num_workers=2", "--job_name=sleeper", "--", *python)
    assert job.startswith("sleeper-")
    until(lambda: tfscale("jobs", "logs", job).stdout.count("runs in") == 2)
    (row,) = json.loads(tfscale("jobs", "list", "--json").stdout)
    assert (row["id"], row["state"], row["tasks"]) == (job, "running", 2)
    expected = f"[worker 1] runs in {Path.cwd()} {job}\n"
    assert tfscale("jobs", "logs", job, "--task=worker-1").stdout == expected
    stacks = tfscale("jobs", "stacks", job)
    assert "asked 2 processes of this host" in stacks.stderr
    for worker in ("[worker 0] ", "[worker 1] "):
        assert f'{worker}  File "<string>", line 1 in <lambda>' in stacks.stdout
    stop = tfscale("jobs", "stop", job[:10])
    assert stop.returncode == 0
    assert "has ended: stopped. SIGTERM received; the whole job was ended." in stop.stderr
    assert values(tfscale, job)["exit_status"] == 143
    assert tfscale("jobs", "wait", job).returncode == 143
    assert "is over: stopped" in tfscale("jobs", "stop", job).stderr


def test_stacks_are_those_of_all_launchers_of_an_elastic_job_on_this_host(
    tfscale: Tfscale,
) -> None:
    meeting = f"--rendezvous=127.0.0.1:{free_ports(1)[0]}"
    flags = ("--num_workers=2:3", meeting, "--settle_seconds=600")
    python = [sys.executable, "-S", "-c", SLEEPER]
    jobs = [
        submitted(tfscale, *flags, f"--host_address=127.0.0.{host}", "--", *python)
        for host in (1, 2)
    ]
    third = submitted(tfscale, *flags, "--host_address=127.0.0.3", "--", *python)
    all_jobs = (*jobs, third)
    until(lambda: all("runs in" in tfscale("jobs", "logs", job).stdout for job in all_jobs))
    for job in jobs:
        stacks = tfscale("jobs", "stacks", job)
        assert stacks.returncode == 0, stacks.stderr
        others = [other for other in all_jobs if other != job]
        assert f"asked 3 processes of this host, also of {others[0]}, {others[1]};" in stacks.stderr
        for worker in range(3):
            assert f'[worker {worker}]   File "<string>", line 1 in <lambda>' in stacks.stdout
    for job in jobs:
        assert tfscale("jobs", "stop", job).returncode == 0
    until(lambda: values(tfscale, third)["state"] != "running")


def test_stacks_name_the_workers_of_other_hosts(tfscale: Tfscale) -> None:
    one, other = free_ports(2)
    hosts = f"--hosts=127.0.0.1:{one},127.0.0.2:{other}"
    python = [sys.executable, "-S", "-c", SLEEPER]
    job = submitted(tfscale, hosts, "--host_index=0", "--", *python)
    until(lambda: "runs in" in tfscale("jobs", "logs", job).stdout)
    said = tfscale("jobs", "stacks", job).stderr
    assert "asked 1 processes of this host; not reached: worker 1 on 127.0.0.2. Run" in said
    assert tfscale("jobs", "stop", job).returncode == 0


STOPPED = """
import os, pathlib, signal, time
log = pathlib.Path(os.environ["TFSCALE_JOBS_DIR"], os.environ["TFSCALE_JOB_ID"], "launcher.log")
if os.fork() == 0:
    while "no sign of life" not in log.read_text():
        time.sleep(0.05)
    os.kill(os.getppid(), signal.SIGCONT)
    os._exit(0)
os.kill(os.getpid(), signal.SIGSTOP)
os.wait()
"""


def test_a_notice_is_not_the_reason_of_a_job_that_succeeded(
    tfscale: Tfscale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFSCALE_NOTICE_SECONDS", "0.5")
    job = submitted(tfscale, "--num_workers=1", "--", sys.executable, "-S", "-c", STOPPED)
    done = tfscale("jobs", "wait", job)
    assert done.returncode == 0
    assert done.stderr.endswith(f"{job} has ended: succeeded.\n")


DAMAGES = ("", "[]", '{"sta', '{"pid": "x", "host": "", "start": ""}')


def test_a_damaged_record_hides_no_other_job_and_decides_nothing(
    tfscale: Tfscale, tmp_path: Path
) -> None:
    """All damages are done to one pair of jobs: starting jobs is what takes the time."""
    python = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
    good, bad = (submitted(tfscale, "--num_workers=1", "--", *python) for _ in range(2))
    for name in ("process.json", "ended.json"):
        path = tmp_path / "jobs" / bad / name
        kept = path.read_text() if path.exists() else None
        for text in DAMAGES:
            path.write_text(text)
            rows = {row["id"]: row for row in json.loads(tfscale("jobs", "list", "--json").stdout)}
            assert rows[good]["state"] == "running"
            assert rows[bad]["state"] == ("unknown" if name == "process.json" else "running"), text
        path.unlink() if kept is None else path.write_text(kept)
    (tmp_path / "jobs" / bad / "process.json").rename(tmp_path / "process.json")
    assert values(tfscale, bad)["state"] == "unknown"
    (tmp_path / "process.json").rename(tmp_path / "jobs" / bad / "process.json")
    assert values(tfscale, bad)["state"] == "running"
    assert tfscale("jobs", "stop", bad).returncode == 0
    for text in DAMAGES:
        (tmp_path / "jobs" / bad / "job.json").write_text(text)
        listed = tfscale("jobs", "list", "--json")
        assert [row["id"] for row in json.loads(listed.stdout)] == [good], text
        assert listed.returncode == 1
        assert f"{bad}/job.json is not a record of a job" in listed.stderr
    assert tfscale("jobs", "stop", good).returncode == 0


def test_the_end_is_told_where_it_cannot_be_kept(tfscale: Tfscale, tmp_path: Path) -> None:
    job = submitted(tfscale, "--num_workers=1", "--", "sh", "-c", "exit 3")
    until((tmp_path / "jobs" / job / "exit.json").exists)
    (tmp_path / "jobs" / job / "ended.json").mkdir()  # as a full disk, it takes no file
    assert tfscale("jobs", "wait", job).returncode == 3


@pytest.mark.parametrize("where", ["--detach", "--dry_run"])
def test_what_the_foreground_refuses_is_not_submitted(tfscale: Tfscale, where: str) -> None:
    for flags, program, problem in (
        ((), "no-such-program", "`command` must begin with a program that can be executed"),
        (("--cpus_per_worker=100000",), "true", "`cpus_per_worker` must be"),
        (("--num_ps=1", "--num_data_workers=1"), "true", "`num_data_workers` must be 0"),
    ):
        done = tfscale("launch", where, "--num_workers=1", *flags, "--", program)
        assert done.returncode == 2, done.stdout
        assert problem in done.stderr


def test_a_folder_that_cannot_be_made_is_named(tfscale: Tfscale, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    given = ("launch", "--detach", "--num_workers=1", f"--log_dir={tmp_path}/file/logs", "--")
    done = tfscale(*given, "true")
    assert done.returncode == 1
    assert f"`--log_dir` must be a folder that can be written. Received: {tmp_path}" in done.stderr
    (tmp_path / "jobs").rmdir()
    (tmp_path / "jobs").touch()
    done = tfscale("launch", "--detach", "--num_workers=1", "--", "true")
    assert f"`TFSCALE_JOBS_DIR` must be a folder that can be written. Received: {tmp_path}" in (
        done.stderr
    )


def test_a_flag_of_zero_reaches_the_background(tfscale: Tfscale) -> None:
    given = [
        *("--gpus_per_worker=0", "--max_restarts=0", "--early_seconds=0.0", "--grace_seconds=0.0"),
        *("--num_ps=0", "--num_data_workers=0", "--hosts=127.0.0.1:23400", "--host_index=0"),
    ]
    shown = tfscale("launch", "--dry_run", *given, "--", "true")
    assert shown.returncode == 0, shown.stderr
    assert [flag for flag in given if f'"{flag}"' not in shown.stdout] == []


def test_the_end_of_a_job_is_told(tfscale: Tfscale, tmp_path: Path) -> None:
    code = "import sys; print('a'); print('b'); sys.exit(int(sys.argv[1]))"
    python = [sys.executable, "-S", "-c", code]
    good = submitted(tfscale, "--num_workers=1", "--", *python, "0")
    bad = submitted(tfscale, "--num_workers=1", f"--log_dir={tmp_path}/logs", "--", *python, "7")
    assert [tfscale("jobs", "wait", job).returncode for job in (good, bad)] == [0, 7]
    assert values(tfscale, good)["state"] == "succeeded"
    assert "worker 0 failed first: exit status 7" in values(tfscale, bad)["detail"]
    assert tfscale("jobs", "logs", bad, "--lines=1", "--task=worker-0").stdout == "[worker 0] b\n"
    follow = tfscale("jobs", "logs", good, "--follow")
    assert (follow.returncode, follow.stdout) == (0, "[worker 0] a\n[worker 0] b\n")
    assert (tmp_path / "logs" / "worker-0.attempt-0.log").read_text() == "a\nb\n"


def test_a_launcher_that_was_killed_is_a_failure(tfscale: Tfscale, tmp_path: Path) -> None:
    python = [sys.executable, "-S", "-c", SLEEPER]
    job = submitted(tfscale, "--num_workers=1", "--", *python)
    os.kill(int(values(tfscale, job)["engine_id"]), signal.SIGKILL)
    until(lambda: values(tfscale, job)["state"] == "failed")
    assert "killed or by a crash: launcher.log" in values(tfscale, job)["detail"]


def test_a_process_that_would_die_of_the_signal_is_not_asked(tfscale: Tfscale) -> None:
    python = [sys.executable, "-S", "-c", "import time; print('x', flush=True); time.sleep(3600)"]
    job = submitted(tfscale, "--num_workers=1", "--", *python)
    until(lambda: "x" in tfscale("jobs", "logs", job).stdout)
    stacks = tfscale("jobs", "stacks", job)
    assert stacks.returncode == 1
    assert "can be asked: a program answers once it has built a strategy" in stacks.stderr
    assert values(tfscale, job)["state"] == "running"
    assert tfscale("jobs", "stop", job).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("status", "none"), "no job 'none' in "),
        (("stop", ""), "no job '' in "),
        (("logs",), "the following arguments are required: ID"),
        ((), "the following arguments are required: ACTION"),
    ],
)
def test_wrong_usage_is_one_line(
    tfscale: Tfscale, arguments: tuple[str, ...], problem: str
) -> None:
    done = tfscale("jobs", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr


def test_an_unknown_task_is_named(tfscale: Tfscale) -> None:
    job = submitted(tfscale, "--num_workers=1", "--", "true")
    done = tfscale("jobs", "logs", job, "--task=worker-1")
    assert done.returncode == 2
    assert f"`--task` must be a task of {job}: launcher, worker-0. Received" in done.stderr


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--memory=1GiB", "`--memory` must be left out with --engine=local"),
        ("--option=partition=gpu", "`--option` must be one that --engine=local has: none. Rec"),
        ("--env=A", "`--env` must be NAME=VALUE. Received: 'A'."),
        ("--job_name=A", "`job_name` must be at most 40"),
        ("--time_limit=5", "must be at least 1s, a number with its unit s, m, h or d. Rec"),
        ("--engine=slurn", "invalid choice: 'slurn'"),
    ],
)
def test_what_a_job_cannot_have_is_refused(tfscale: Tfscale, flag: str, problem: str) -> None:
    done = tfscale("launch", "--num_workers=1", flag, "--dry_run", "--", "true")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr


def test_a_dry_run_prints_the_submission_and_leaves_nothing(
    tfscale: Tfscale, tmp_path: Path
) -> None:
    done = tfscale("launch", "--num_workers=2", "--detach", "--dry_run", "--", "true", "a b")
    assert done.returncode == 0
    first, *rest = done.stdout.splitlines()
    assert first == "# run.json"
    submitted_values = json.loads("\n".join(rest[:-2]))
    assert submitted_values["tfscale"][-3:] == ["--", "true", "a b"]
    assert "--num_workers=2" in submitted_values["tfscale"]
    assert rest[-1].startswith(sys.executable)
    assert not (tmp_path / "jobs").exists()
