"""`--engine=tpu_vm` with a stub of gcloud, which records its arguments and runs the script here."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import until
from tfscale.launch.engines import JobRecord, JobRequest, JobStatus, State, submit
from tfscale.launch.engines.job_record import new_record
from tfscale.launch.engines.tpu_vm.engine import TpuVm

OPTIONS = {"tpu": "my-tpu", "zone": "us-west4-a"}
SECONDS = 60.0
# What `gcloud compute tpus tpu-vm ssh --help` lists of these; the rest of an argument is its value.
STUB = """#!/bin/sh
for argument; do
    case $argument in
    --command=*) script=${argument#--command=} ;;
    *) printf '%s ' "$argument" >> "$HOME/gcloud.txt" ;;
    esac
done
echo >> "$HOME/gcloud.txt"
exec sh -c "$script"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home folder of the VM, and a PATH on which gcloud is the stub."""
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "gcloud"
    stub.write_text(STUB)
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    yield tmp_path
    for pid in tmp_path.glob(".tfscale/jobs/*/pid"):
        subprocess.run(["kill", "-KILL", "--", f"-{pid.read_text().strip()}"], capture_output=True)


def request(*command: str, **given: object) -> JobRequest:
    options = {**OPTIONS, **given.pop("options", {})}  # type: ignore[dict-item]
    return JobRequest(command, "digits", 1, options=options, **given)  # type: ignore[arg-type]


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


def submitted(home: Path, asked: JobRequest) -> JobRecord:
    return submit(TpuVm(), asked, home / "jobs")


def ended(job: JobRecord) -> State:
    def status() -> JobStatus:
        return TpuVm().status(job)

    until(lambda: status().state.is_over, SECONDS, status, every=0.1)
    return status().state


def printed(job: JobRecord) -> str:
    (command,) = TpuVm().logs(job).values()
    assert isinstance(command, tuple)
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS).stdout


def test_a_job_runs_on_worker_0_of_the_tpu_and_its_output_is_printed(home: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ['A'], os.environ['TFSCALE_RESTART'])"
    asked = request(*python(code), environment={"A": "it's"}, options={"folder": "/"})
    job = submitted(home, asked)
    assert ended(job) is State.SUCCEEDED
    assert printed(job) == "/ it's 0\n"
    assert (home / "gcloud.txt").read_text().splitlines()[0].strip() == (
        "compute tpus tpu-vm ssh my-tpu --zone=us-west4-a --worker=0 --quiet"
    )


def test_a_failure_has_its_status_and_the_error_file_its_place(home: Path) -> None:
    job = submitted(home, request(*python("import os, sys; sys.exit(3)")))
    assert ended(job) is State.FAILED
    assert TpuVm().status(job).exit_status == 3


def test_a_preempted_process_runs_again_and_failures_up_to_the_limit(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os, sys; sys.exit([42, 5, 0][int(os.environ['TFSCALE_RESTART'])])"
    monkeypatch.setattr("tfscale.launch.engines.tpu_vm.scripts.RESTART_SECONDS", 0)
    job = submitted(home, request(*python(code), max_restarts=1))
    assert ended(job) is State.SUCCEEDED
    job = submitted(home, request(*python(code), max_restarts=0))
    assert ended(job) is State.FAILED


def test_stopping_sends_sigterm_and_then_sigkill(home: Path) -> None:
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('term', flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(9)\n"
    )
    job = submitted(home, request(*python(code), grace_seconds=5.0, max_restarts=5))
    until(lambda: "ready" in printed(job), SECONDS, lambda: printed(job))
    assert TpuVm().status(job).state is State.RUNNING
    TpuVm().stop(job)
    assert ended(job) is State.STOPPED
    assert printed(job) == "ready\nterm\n"


def test_a_job_that_is_stopped_between_two_starts_does_not_start_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfscale.launch.engines.tpu_vm.scripts.RESTART_SECONDS", 2)
    code = "import os, time; os.environ['TFSCALE_RESTART'] == '0' or time.sleep(600); 1 / 0"
    job = submitted(home, request(*python(code), max_restarts=5))
    until(lambda: "ZeroDivisionError" in printed(job), SECONDS, lambda: printed(job))
    TpuVm().stop(job)
    assert ended(job) is State.STOPPED


def test_the_end_that_comes_while_the_state_is_asked_for_is_seen(home: Path) -> None:
    job = new_record(request("true"), "tpu_vm", home / "jobs")
    folder = home / ".tfscale" / "jobs" / job.id
    folder.mkdir(parents=True)
    (folder / "pid").write_text("999999999\n")  # of no process
    (folder / "restart").write_text("0\n")
    os.mkfifo(folder / "runner")  # whose reader writes the end before it knows the process

    def end() -> None:
        with (folder / "runner").open("w") as runner:
            (folder / "exit").write_text("ended 3\n")
            runner.write("999999999\n")

    thread = threading.Thread(target=end)
    thread.start()
    assert TpuVm().status(job).exit_status == 3
    thread.join()


def test_stacks_are_asked_of_the_processes_that_handle_the_signal(home: Path) -> None:
    code = (
        "import faulthandler, signal, time\n"
        "faulthandler.register(signal.SIGUSR2)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(9)\n"
    )
    job = submitted(home, request(*python(code)))
    until(lambda: "ready" in printed(job), SECONDS, lambda: printed(job))
    assert TpuVm().ask_for_stacks(job).startswith("asked 1 of ")
    until(lambda: "line" in printed(job), SECONDS, lambda: printed(job))
    TpuVm().stop(job)


def test_a_job_that_the_vm_does_not_know_is_unknown(home: Path) -> None:
    job = new_record(request("true"), "tpu_vm", home / "jobs")
    assert TpuVm().status(job).state is State.UNKNOWN


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memory": 1}, r"`--memory` must be left out with --engine=tpu_vm"),
        ({"gpus_per_worker": 1}, r"a TPU VM has no GPUs"),
        ({"num_ps": 1}, r"parameter servers do not use TPUs"),
        ({"time_limit": 60.0}, r"--max-run-duration"),
        ({"options": {"tpu": "My TPU"}}, r"`--option tpu` must be the name .*tpu='My TPU'"),
        ({"options": {"zone": "west"}}, r"`--option zone` must be the zone .*us-west4-a"),
        ({"options": {"internal_ip": "yes"}}, r"`--option internal_ip` must be true or false"),
    ],
)
def test_what_a_tpu_vm_cannot_do_is_refused(given: dict[str, object], message: str) -> None:
    asked = request("true", **given)
    with pytest.raises(ValueError, match=message):
        TpuVm().submission(asked, new_record(asked, "tpu_vm", Path("/jobs")))


def test_several_workers_are_refused() -> None:
    asked = JobRequest(("true",), "digits", 2, options=OPTIONS)
    with pytest.raises(ValueError, match=r"`--num_workers` must be 1 .*from one process"):
        TpuVm().submission(asked, new_record(asked, "tpu_vm", Path("/jobs")))
