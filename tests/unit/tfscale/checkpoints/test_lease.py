"""Leases of real processes and threads on real folders."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strategies.cluster.environments import JobStart
from tests.programs import ROOT, completed, own_environment
from tests.unit.tfscale.checkpoints.leases import (
    LIVING,
    QUICK,
    elsewhere,
    held,
    lease_of,
    leases_in,
)
from tfscale.checkpoints import storage_errors
from tfscale.checkpoints.lease import LOCAL, Lease, SharedLease
from tfscale.checkpoints.lease_files import LocalLeaseFiles
from tfscale.checkpoints.lease_holder import Holder, Verdict, own_holder
from tfscale.checkpoints.lease_protocol import FolderTaken, Periods, TakenOver

AT_ONCE = LOCAL.stale / 2
"""Seconds: a lease that is not taken at once is waited for until it is stale."""
HOLD = (
    "import sys, time; from tfscale.checkpoints.lease import SharedLease; "
    "SharedLease(sys.argv[1]); print('holds', flush=True); time.sleep(600)"
)


@contextlib.contextmanager
def holding_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=own_environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_free_folder_is_taken_at_once_and_left_empty(tmp_path: Path) -> None:
    begin = time.monotonic()
    with held(tmp_path / "run", own_holder(), LOCAL):
        assert time.monotonic() - begin < AT_ONCE
        (lease,) = leases_in(tmp_path / "run")
        assert (lease["state"], lease["holder"]["pid"]) == ("holding", os.getpid())
    assert list((tmp_path / "run").iterdir()) == []


def test_a_second_process_is_refused_at_once_and_reads_who_holds_the_folder(tmp_path: Path) -> None:
    with holding_process(tmp_path) as process:
        begin = time.monotonic()
        refused = rf"`directory` must be .*that no other.*process {process.pid} on host .*since 20"
        with pytest.raises(ValueError, match=refused):
            SharedLease(str(tmp_path))
        assert time.monotonic() - begin < AT_ONCE
    assert len(leases_in(tmp_path)) == 1


@pytest.mark.parametrize("is_collected", [True, False], ids=["gone", "zombie"])
def test_a_killed_process_of_this_host_is_replaced_at_once(
    tmp_path: Path, is_collected: bool
) -> None:
    with holding_process(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        if is_collected:
            process.wait()
        else:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        begin = time.monotonic()
        lease = SharedLease(str(tmp_path))
        assert time.monotonic() - begin < AT_ONCE
    assert [found["holder"]["pid"] for found in leases_in(tmp_path)] == [os.getpid()]
    lease.release()
    assert leases_in(tmp_path) == []


def test_a_stopped_process_of_this_host_is_alive(tmp_path: Path) -> None:
    with holding_process(tmp_path) as process:
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(FolderTaken):
            SharedLease(str(tmp_path))


def test_a_process_that_ends_leaves_no_lease(tmp_path: Path) -> None:
    program = HOLD.replace("time.sleep(600)", "sys.exit(42)")
    assert completed("-c", program, str(tmp_path), timeout=60).returncode == 42
    assert leases_in(tmp_path) == []


def test_a_dead_job_of_another_host_is_replaced_when_it_was_silent_long_enough(
    tmp_path: Path,
) -> None:
    dead = lease_of(tmp_path, elsewhere("first"), dataclasses.replace(QUICK, renew=600.0))
    dead.acquire()
    begin = time.monotonic()
    with held(tmp_path, elsewhere("second")):
        assert time.monotonic() - begin >= QUICK.stale
        assert [found["holder"]["host"] for found in leases_in(tmp_path)] == ["second"]
        with pytest.raises(TakenOver, match=r"another job has taken over the checkpoints in .*sec"):
            dead.check()


def test_a_living_job_of_another_host_refuses_a_second_and_a_third(tmp_path: Path) -> None:
    with held(tmp_path, elsewhere("first"), LIVING) as lease:
        for other in ("second", "third"):
            with pytest.raises(FolderTaken, match=r"process 7 on host 'first' .* is using it"):
                lease_of(tmp_path, elsewhere(other), LIVING).acquire()
        lease.check()
    with held(tmp_path, elsewhere("second")):
        pass
    assert leases_in(tmp_path) == []


@pytest.mark.parametrize("scheme", ["local", "ram"])
def test_of_many_that_come_at_once_exactly_one_holds(tmp_path: Path, scheme: str) -> None:
    place = str(tmp_path) if scheme == "local" else f"ram://{tmp_path.name}"
    outcomes: list[Lease | str] = []
    together = threading.Barrier(6)

    def come(number: int) -> None:
        lease = lease_of(place, elsewhere(f"host {number}"), LIVING)
        together.wait(120)
        try:
            lease.acquire()
        except FolderTaken as error:
            outcomes.append(str(error))
        else:
            outcomes.append(lease)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    holders = [outcome for outcome in outcomes if isinstance(outcome, Lease)]
    assert (len(holders), len(outcomes)) == (1, 6)
    holders[0].check()
    holders[0].release()


def test_a_later_start_of_the_same_job_takes_over_at_once_and_an_earlier_one_does_not(
    tmp_path: Path,
) -> None:
    first, second = (elsewhere(f"host {i}", JobStart("Slurm", "77", i)) for i in range(2))
    slow = Periods(renew=600.0, stale=1800.0, poll=0.02)
    earlier = lease_of(tmp_path, first, slow)
    earlier.acquire()
    begin = time.monotonic()
    with held(tmp_path, second, slow):
        assert time.monotonic() - begin < AT_ONCE
        with pytest.raises(FolderTaken, match="Slurm job 77, start 1"):
            lease_of(tmp_path, first, slow).acquire()
        earlier._claimant.trusted_until = 0.0
        with pytest.raises(TakenOver):
            earlier.check()


def test_two_programs_of_one_start_of_a_job_are_two_jobs(tmp_path: Path) -> None:
    here, there = (elsewhere(f"host {i}", JobStart("Slurm", "77", 0)) for i in range(2))
    with held(tmp_path, here, LIVING), pytest.raises(FolderTaken):
        lease_of(tmp_path, there, LIVING).acquire()


def test_a_process_number_of_another_namespace_says_nothing() -> None:
    own = own_holder()
    assert own.verdict(own) is Verdict.ALIVE
    assert own.verdict(dataclasses.replace(own, process_start="1")) is Verdict.DEAD
    assert own.verdict(dataclasses.replace(own, system="b pid:[1]", pid=99)) is Verdict.UNKNOWN
    assert Holder.from_json(json.loads(json.dumps(own.to_json()))) == own


def test_trainings_of_one_process_share_its_lease(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run")
    first, second = SharedLease(str(tmp_path / "run")), SharedLease(str(tmp_path / "link"))
    third = second.another_use()
    for lease in (first, second, second):
        lease.release()
        assert len(leases_in(tmp_path / "run")) == 1
    third.release()
    assert leases_in(tmp_path / "run") == []


FORKING = """
import os, sys
from tfscale.checkpoints.lease import SharedLease
lease = SharedLease(sys.argv[1])
child = os.fork()
if child == 0:
    try:
        SharedLease(sys.argv[1])
    except ValueError as error:
        print("refused", f"process {os.getppid()}" in str(error), flush=True)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
lease.check()
print(len([name for name in os.listdir(sys.argv[1]) if name.startswith(".lease")]))
"""


def test_a_forked_child_has_no_lease_and_leaves_its_parents_alone(tmp_path: Path) -> None:
    done = completed("-c", FORKING, str(tmp_path), timeout=60)
    assert (done.stdout.split(), done.returncode) == (["refused", "True", "1"], 0), done.stderr


class FailingFiles(LocalLeaseFiles):
    """A folder whose file system stops answering, and answers again."""

    fails = False

    def write(self, name: str, content: bytes) -> None:
        if self.fails:
            raise OSError(28, "No space left on device")
        super().write(name, content)


def test_an_outage_is_said_once_and_costs_no_lease(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = FailingFiles(str(tmp_path))
    lease = Lease(str(tmp_path), files, elsewhere(), dataclasses.replace(QUICK, stale=600.0))
    lease.acquire()
    files.fails = True
    said = ""
    deadline = time.monotonic() + 120
    while "No space left" not in said and time.monotonic() < deadline:
        time.sleep(QUICK.renew)
        said += capfd.readouterr().err
    lease.check()
    time.sleep(5 * QUICK.renew)
    said += capfd.readouterr().err
    assert said.count("cannot be renewed") == 1
    lease._claimant.trusted_until = 0.0
    with pytest.raises(OSError, match=r"no renewal has succeeded for 300 s: .*No space left"):
        lease.check()
    files.fails = False
    lease.check()
    lease.release()


def test_ctrl_c_while_it_waits_leaves_no_lease(tmp_path: Path) -> None:
    with holding_process(tmp_path) as process:
        (path,) = tmp_path.glob(".lease-*")
        lease = json.loads(path.read_text())
        process.kill()
    lease["holder"]["system"] = "of another host"
    path.write_text(json.dumps(lease))
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    waiting = subprocess.Popen(
        command, cwd=ROOT, env=own_environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        assert re.match(rf"tfscale: waiting to see whether process {process.pid} on host", said)
        waiting.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in waiting.communicate(timeout=120)[1]
    finally:
        waiting.kill()
        waiting.communicate()
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_at_the_start_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(storage_errors, "PAUSES_SECONDS", (0.01, 0.02))
    files = FailingFiles(str(tmp_path))
    files.fails = True
    lease = Lease(str(tmp_path), files, elsewhere(), QUICK)
    with pytest.raises(
        OSError, match=rf"storage of {tmp_path} failed while acquiring .*No space left"
    ):
        lease.acquire()
    assert capfd.readouterr().err.count("Retrying in") == 2
    monkeypatch.setattr("time.sleep", lambda seconds: setattr(files, "fails", False))
    lease.acquire()
    lease.release()
    assert list(tmp_path.iterdir()) == []
