"""Jobs of `tfscale launch --engine=mpi` under real MPICH and Open MPI."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.mpi.conftest import SECONDS, Start, environment, finished, worker
from tests.faults.cables import ADDRESSES, Cable, missing
from tests.programs import ROOT
from tests.waiting import until

pytestmark = pytest.mark.engines


def test_every_worker_meets_every_worker(start: Start) -> None:
    status, lines, errors = finished(start("--num_workers=3", *worker("meet")))
    assert status == 0, errors
    assert [line[: len("[worker 0] met [0, 1, 2]")] for line in lines] == [
        f"[worker {index}] met [0, 1, 2]" for index in range(3)
    ]


def test_a_killed_worker_ends_the_job_and_is_named(start: Start) -> None:
    status, _, errors = finished(start("--num_workers=2", *worker("killed")))
    assert status == 128 + signal.SIGKILL
    assert re.search(r"worker 1 failed first: killed by SIGKILL .*the whole job was ended", errors)


def test_a_failed_worker_ends_the_job_with_its_status(start: Start) -> None:
    status, _, errors = finished(start("--num_workers=3", *worker("failed")))
    assert status == 3
    assert "worker 1 failed first: exit status 3" in errors


def test_a_preempted_job_runs_again_without_using_a_restart(start: Start) -> None:
    status, _, errors = finished(start("--num_workers=2", "--max_restarts=0", *worker("preempted")))
    assert status == 0, errors
    assert "not counted (preempted); 0 of 0 restarts used" in errors


def test_workers_have_the_grace_period_to_save(start: Start, tmp_path: Path) -> None:
    job = start("--num_workers=2", f"--log_dir={tmp_path}", *worker("saving"))
    _until_ready(tmp_path, 2)
    job.send_signal(signal.SIGTERM)
    status, lines, errors = finished(job)
    assert status == 42, errors
    assert [line for line in lines if line.endswith("saved")] == [
        "[worker 0] saved",
        "[worker 1] saved",
    ]


def test_nothing_runs_on_after_the_launcher_was_killed(start: Start, tmp_path: Path) -> None:
    job = start("--num_workers=2", f"--log_dir={tmp_path}", *worker("saving"))
    workers = _until_ready(tmp_path, 2)
    job.kill()
    until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers),
        SECONDS,
        lambda: workers,
    )


def test_two_jobs_at_once_have_different_ports(start: Start) -> None:
    jobs = [start("--num_workers=2", *worker("meet")) for _ in range(2)]
    ends = [finished(job) for job in jobs]
    assert [status for status, _, _ in ends] == [0, 0], ends
    addresses = [set(lines[0].split()[-2:]) for _, lines, _ in ends]
    assert not addresses[0] & addresses[1]


def test_a_host_that_cannot_be_reached_ends_the_job(
    start: Start, launcher: str, tmp_path: Path
) -> None:
    agent = _agent(launcher, tmp_path, {})
    hosts = f"--option=hosts={ADDRESSES[0]}:1"
    # The mpiexec of MPICH waits without end.
    job = start("--num_workers=1", "--start_seconds=5", hosts, agent, *worker("meet"))
    status, _, errors = finished(job)
    assert status not in (0, 42)
    assert "mpiexec failed first" in errors


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_workers_of_two_hosts_meet_under_the_addresses_of_their_hosts(
    start: Start, launcher: str, tmp_path: Path
) -> None:
    with Cable() as cable:
        job = start(
            *_two_hosts(launcher, cable, tmp_path),
            f"--log_dir={tmp_path}",
            *worker("meet"),
            under=tuple(cable.command(0, [])),
        )
        status, lines, errors = finished(job)
    assert status == 0, errors
    assert len(lines) == 4
    found = lines[0].split()[-4:]
    assert [address.partition(":")[0] for address in found] == [
        *[ADDRESSES[0]] * 2,
        *[ADDRESSES[1]] * 2,
    ]
    assert len(list(tmp_path.glob("worker-*.attempt-0.log"))) == 4


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_failure_on_another_host_is_named(start: Start, launcher: str, tmp_path: Path) -> None:
    with Cable() as cable:
        first = ["--num_workers=2", f"--option=hosts={ADDRESSES[0]}:1,{ADDRESSES[1]}:1"]
        job = start(
            *first,
            *_two_hosts(launcher, cable, tmp_path)[2:],
            *worker("killed"),
            under=tuple(cable.command(0, [])),
        )
        status, _, errors = finished(job)
    assert status == 128 + signal.SIGKILL, errors
    assert "worker 1 failed first: killed by SIGKILL" in errors


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_ranks_that_are_not_placed_host_by_host_are_refused(
    start: Start, launcher: str, tmp_path: Path
) -> None:
    if "openmpi" not in Path(launcher).name:
        pytest.skip("MPICH has no other order, and Open MPI 5 takes one --map-by only")
    with Cable() as cable:
        flags = _two_hosts(launcher, cable, tmp_path)
        flags[-1] += " --map-by node"
        job = start(*flags, *worker("meet"), under=tuple(cable.command(0, [])))
        status, _, errors = finished(job)
    assert status == 2, errors
    assert "in the order of their ranks" in errors


def test_a_worker_can_use_the_mpi_library_of_its_launcher(start: Start, launcher: str) -> None:
    if Path(launcher).parent != Path(sys.executable).parent:
        pytest.skip("the MPI library of this environment is MPICH of PyPI")
    code = "from mpi4py import MPI; w = MPI.COMM_WORLD; print(w.rank, w.allreduce(w.rank + 1))"
    job = start("--num_workers=3", "--", sys.executable, "-c", code)
    status, lines, errors = finished(job)
    assert status == 0, errors
    assert lines == ["[worker 0] 0 6", "[worker 1] 1 6", "[worker 2] 2 6"]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param("MPI.Finalize(); time.sleep(rank)", 0, id="finalized long before its end"),
        pytest.param("rank == 1 and os._exit(3); time.sleep(60)", 3, id="not finalized"),
    ],
)
def test_the_end_of_a_worker_with_an_mpi_library_ends_no_other_without_its_grace(
    start: Start, launcher: str, end: str, status: int
) -> None:
    if Path(launcher).parent != Path(sys.executable).parent:
        pytest.skip("the MPI library of this environment is MPICH of PyPI")
    code = (
        "import os, signal, time\n"
        "from mpi4py import MPI\n"
        "def save(*_): time.sleep(1); print('saved', flush=True); os._exit(42)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "rank = MPI.COMM_WORLD.rank\n"
        f"MPI.COMM_WORLD.Barrier(); {end}\n"
        "print('done', flush=True)\n"
    )
    job = start("--num_workers=3", "--", sys.executable, "-c", code)
    found, lines, errors = finished(job)
    assert found == status, errors
    if status:
        assert lines == ["[worker 0] saved", "[worker 2] saved"]
        assert "worker 1 failed first: exit status 3" in errors
    else:
        assert lines == ["[worker 0] done", "[worker 1] done", "[worker 2] done"]
    assert "TERMINATED" not in errors  # mpiexec's own words, of what was not its business


def test_a_job_in_the_background_is_watched_and_stopped(start: Start, tmp_path: Path) -> None:
    job_id, _ = start("--num_workers=2", "--detach", *worker("saving")).communicate()
    folder = tmp_path / "jobs" / job_id.strip()
    _until_ready(folder / "logs", 2)
    assert "running" in _jobs(tmp_path, "status", job_id.strip())
    _jobs(tmp_path, "stop", job_id.strip())
    until((folder / "exit.json").exists, SECONDS, lambda: "no exit.json")
    assert json.loads((folder / "exit.json").read_text())["status"] == 42
    assert "saved" in (folder / "logs" / "worker-1.attempt-0.log").read_text()


def test_digits_reach_the_accuracy_of_two_replicas_of_one_process(
    start: Start, tmp_path: Path
) -> None:
    recipe = (sys.executable, "-m", "recipes.image_classification", "--dataset=digits")
    alone = (*recipe, "--distribution_strategy=mirrored", "--num_replicas=2")
    subprocess.run(
        [*alone, f"--model_dir={tmp_path}/alone"],
        cwd=ROOT,
        env=environment(tmp_path),
        check=True,
        capture_output=True,
        timeout=5 * SECONDS,
    )
    together = (*recipe, "--distribution_strategy=multi_worker_mirrored")
    job = start("--num_workers=2", "--", *together, f"--model_dir={tmp_path}/mpi")
    output, errors = job.communicate(timeout=5 * SECONDS)
    assert job.returncode == 0, output + errors
    found = [
        json.loads((tmp_path / name / "summary.json").read_text())["test_accuracy"]
        for name in ("alone", "mpi")
    ]
    assert found[0] == found[1]
    assert found[0] > 0.98


def _until_ready(log_dir: Path, count: int) -> list[int]:
    """Returns the process ids of the workers, once all have started."""

    def logs() -> list[str]:
        return [path.read_text() for path in sorted(log_dir.glob("worker-*.log"))]

    def ready() -> list[int]:
        found = [int(match[1]) for log in logs() if (match := re.search(r"ready (\d+)\n", log))]
        return found if len(found) == count else []

    return until(ready, SECONDS, logs)


def _jobs(jobs: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tfscale", "jobs", *arguments],
        cwd=ROOT,
        env={**environment(jobs), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _two_hosts(launcher: str, cable: Cable, folder: Path) -> list[str]:
    """Returns the flags for four workers at both ends of a cable."""
    hosts = {ADDRESSES[end]: cable.command(end, []) for end in range(2)}
    listed = ",".join(f"{address}:2" for address in ADDRESSES)
    agent = _agent(launcher, folder, hosts)
    return ["--num_workers=4", f"--option=hosts={listed}", agent]


def _agent(launcher: str, folder: Path, hosts: dict[str, list[str]]) -> str:
    """Returns the flag with which a launcher runs a program of our own instead of ssh."""
    program = folder / "agent"
    cases = "\n".join(f'{host}) exec {" ".join(run)} sh -c "$*" ;;' for host, run in hosts.items())
    program.write_text(
        "#!/bin/sh\n"
        "while true; do case $1 in -*) shift ;; *) break ;; esac; done\n"
        f"host=$1; shift\ncase $host in\n{cases}\n*) exit 255 ;;\nesac\n"
    )
    program.chmod(0o755)
    if "mpiexec" in Path(launcher).name:
        return f"--option=args=-launcher ssh -launcher-exec {program}"
    if "openmpi" in Path(launcher).name:  # version 4
        return f"--option=args=--mca plm_rsh_agent {program}"
    return f"--option=args=--prtemca plm_ssh_agent {program}"
