"""Two processes at once do not write one file of Monitor; one after the other they do."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.programs import ROOT, own_environment
from tfscale.monitor.claim import Claim
from tfscale.monitor.heartbeat import left_heartbeat
from tfscale.monitor.journal import boot_id

HOLDER = """
import sys
from pathlib import Path
from tfscale.monitor.claim import Claim
claim = Claim(Path(sys.argv[1]), 0)
print("held", flush=True)
sys.stdin.readline()
claim.release()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        cwd=ROOT,
        env=own_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_process_that_still_runs_keeps_its_file(tmp_path: Path) -> None:
    process = holder(tmp_path)
    assert first_line(process) == "held\n"
    with pytest.raises(ValueError, match=f"`folder` must be used by .* process {process.pid} on "):
        Claim(tmp_path, 0)
    Claim(tmp_path, 1).release()  # the file of another worker
    process.communicate("end\n", timeout=60)
    assert not list(tmp_path.glob("running-*"))
    Claim(tmp_path, 0).release()


def test_a_process_that_was_killed_leaves_its_file_to_the_next_one(tmp_path: Path) -> None:
    process = holder(tmp_path)
    assert first_line(process) == "held\n"
    process.kill()
    # A process whose end was not asked for yet has ended too.
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    Claim(tmp_path, 0).release()
    process.communicate(timeout=60)
    (tmp_path / "running-0.json").write_text("{")  # cut off, as by a full disk
    Claim(tmp_path, 0).release()


def test_a_child_that_was_forked_holds_nothing(tmp_path: Path) -> None:
    claim = Claim(tmp_path, 0)
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        claim.release()  # of its parent, so nothing happens
        os.write(writes, b"released")
        time.sleep(600)
    try:
        assert os.read(reads, 8) == b"released"
        assert (tmp_path / "running-0.json").exists()
        claim.release()
        process = holder(tmp_path)
        assert first_line(process) == "held\n"
        process.communicate("end\n", timeout=60)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_of_several_that_begin_at_once_one_has_the_file(tmp_path: Path) -> None:
    processes = [holder(tmp_path) for _ in range(4)]
    said = [first_line(process) for process in processes]
    errors = [process.communicate("end\n", timeout=60)[1] for process in processes]
    assert sorted(said) == ["", "", "", "held\n"]
    assert sum("must be used by one run at a time" in error for error in errors) == 3


def test_who_begins_waits_for_another_one_that_is_about_to_write(tmp_path: Path) -> None:
    with (tmp_path / "monitor-0.jsonl").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = holder(tmp_path)
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], 3.0)
        assert not readable
        ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        pids = str(Path("/proc/self/ns/pid").readlink())
        own = {"host": platform.node(), "boot": boot_id(), "pids": pids, "process": os.getpid()}
        text = json.dumps({**own, "ticks": int(ticks), "since": 0.0})
        (tmp_path / "running-0.json").write_text(text)
        fcntl.flock(file, fcntl.LOCK_UN)
    said, error = process.communicate("end\n", timeout=60)
    assert said == ""
    assert f"process {os.getpid()} on " in error


@pytest.mark.parametrize("beats", [True, False])
def test_a_process_that_cannot_be_seen_writes_if_its_heartbeat_changes(
    tmp_path: Path, beats: bool
) -> None:
    own = {"host": "other", "boot": "other", "pids": "", "process": 7, "ticks": 8, "since": 0.0}
    (tmp_path / "running-0.json").write_text(json.dumps(own))
    (tmp_path / "heartbeat-0.json").write_text("0")
    is_over = threading.Event()

    def beat() -> None:
        number = 0
        while not is_over.wait(0.1):
            number += 1
            (tmp_path / "heartbeat-0.json").write_text(str(number))

    thread = threading.Thread(target=beat)
    if beats:
        thread.start()
    try:
        if beats:
            with pytest.raises(ValueError, match="process 7 on other writes"):
                Claim(tmp_path, 0)
        else:
            Claim(tmp_path, 0).release()
    finally:
        is_over.set()
        if beats:
            thread.join(10)


def test_a_number_that_another_process_has_now_is_no_sign_of_life(tmp_path: Path) -> None:
    pids = str(Path("/proc/self/ns/pid").readlink())
    own = {"host": platform.node(), "boot": boot_id(), "pids": pids, "process": os.getppid()}
    (tmp_path / "running-0.json").write_text(json.dumps({**own, "ticks": 1, "since": 0.0}))
    Claim(tmp_path, 0).release()


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "\\0", "[1]", '{"process": 1e999}'], ids=range(4)
)
def test_a_file_that_is_no_claim_is_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "running-0.json"
    path.write_text(content)
    Claim(tmp_path, 0).release()
    assert not path.exists()


def test_a_fifo_is_not_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "running-0.json")
    Claim(tmp_path, 0).release()
    assert "Monitor cannot write running-0.json" in capfd.readouterr().err


def test_a_file_of_something_else_is_no_heartbeat(tmp_path: Path) -> None:
    (tmp_path / "heartbeat-0.json").write_text('{"a": 1}')
    assert left_heartbeat(tmp_path, 0) is None
