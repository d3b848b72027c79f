"""Jobs in the background of this host, at moments that a busy host reaches now and then."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT, own_environment
from tests.waiting import until
from tfscale.launch.engines import JobRequest, State, in_background
from tfscale.launch.engines.in_background import InBackground, start_of
from tfscale.launch.engines.job_record import JobRecord, all_records, new_record

SECONDS = 60.0


@pytest.fixture
def job(tmp_path: Path) -> JobRecord:
    record = new_record(JobRequest(("true",), "digits", 1), "local", tmp_path)
    record.folder.mkdir()
    return record


def test_a_job_that_ends_while_it_is_looked_at_has_its_status(
    job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"pid": 1, "start": "0", "host": socket.gethostname()}
    (job.folder / "process.json").write_text(json.dumps(place))

    def ends(pid: int) -> str:
        (job.folder / "exit.json").write_text('{"status": 0, "said": "every worker succeeded"}')
        return ""

    monkeypatch.setattr(in_background, "start_of", ends)
    assert InBackground().status(job).state is State.SUCCEEDED


def test_a_signal_that_comes_before_the_job_begins_is_its_end(job: JobRecord) -> None:
    os.mkfifo(job.folder / "run.json")  # it waits here, and its process can be found
    (job.folder / "launcher.log").touch()
    module = "tfscale.launch.engines.background_process"
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(job.folder), "--run"], cwd=ROOT, env=own_environment()
    )
    found = (job.folder / "process.json").exists
    until(found, SECONDS, lambda: "no process.json")
    assert InBackground().status(job).state is State.RUNNING
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 143
    status = InBackground().status(job)
    assert (status.state, status.exit_status) == (State.STOPPED, 143)


def test_a_job_whose_launcher_is_stopped_says_so_and_can_be_ended(job: JobRecord) -> None:
    process = subprocess.Popen(["sleep", "600"])
    place = {"pid": process.pid, "start": start_of(process.pid), "host": socket.gethostname()}
    (job.folder / "process.json").write_text(json.dumps(place))
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    status = InBackground().status(job)
    assert (status.state, "kill -CONT" in status.detail) == (State.RUNNING, True)
    InBackground().stop(job)
    assert process.wait(SECONDS) == -signal.SIGTERM


def test_a_process_whose_parent_does_not_look_has_ended() -> None:
    process = subprocess.Popen(["sleep", "600"])
    assert start_of(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_of(process.pid) == ""
    process.wait()
    assert start_of(process.pid) == ""


def test_a_record_that_is_removed_while_all_are_read_is_not_damaged(
    job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.save()
    (path,) = job.folder.parent.glob("*/job.json")

    def listed(self: Path, pattern: str) -> list[Path]:
        path.unlink()
        return [path]

    monkeypatch.setattr(Path, "glob", listed)
    damaged: list[object] = []
    assert all_records(job.folder.parent, damaged.append) == []
    assert damaged == []
