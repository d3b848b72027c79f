"""What `--engine=mpi` runs, what it refuses, and how it reads its workers' reports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from strategies.extension import ExitReason
from tfscale.launch.engines import JobRequest
from tfscale.launch.engines.end_report import EndReport
from tfscale.launch.engines.engine_tools import EngineFailed
from tfscale.launch.engines.job_record import new_record
from tfscale.launch.engines.mpi.command import Implementation, implementation, mpi_command
from tfscale.launch.engines.mpi.engine import Mpi
from tfscale.launch.engines.mpi.report import Reports, begin_line, end_line

MPIEXEC = str(Path(sys.executable).with_name("mpiexec"))  # of mpich, which the tests install
# What the launchers print, shortened.
OPEN_MPI_4 = "mpirun.openmpi (OpenRTE) 4.1.4\n\nReport bugs to http://www.open-mpi.org/\n"
OPEN_MPI_5 = "mpirun (Open MPI) 5.0.11\n"
MPICH = "HYDRA build details:\n    Version:                                 4.0.2\n"


def command_of(request: JobRequest) -> list[str]:
    """The command line that a dry run prints."""
    engine = Mpi({"detach": False})
    (command,) = engine.submission(request, new_record(request, "mpi", Path("/jobs"))).commands
    return list(command)


def request(num_workers: int = 4, **given: object) -> JobRequest:
    options = {"launcher": MPIEXEC, **given.pop("options", {})}  # type: ignore[dict-item]
    return JobRequest(("python", "t.py"), "digits", num_workers, options=options, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        (OPEN_MPI_4, Implementation.OPEN_MPI),
        (OPEN_MPI_5, Implementation.OPEN_MPI),
        (MPICH, Implementation.HYDRA),
    ],
)
def test_a_launcher_is_recognised_by_its_version(version: str, kind: Implementation) -> None:
    assert implementation("mpiexec", version) is kind


def test_open_mpi_places_ranks_host_by_host_and_does_not_bind_them_to_a_core() -> None:
    environ = {"PYTHONPATH": "/src", "SSH_AUTH_SOCK": "/tmp/agent", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = mpi_command(
        "mpirun",
        Implementation.OPEN_MPI,
        [("a", 2), ("b", 1)],
        ["python"],
        folder="/work",
        environ=environ,
    )
    assert " ".join(command) == (
        "mpirun --host a:2,b:1 --map-by slot --bind-to none -x PYTHONPATH "
        "-x TF_CPP_MIN_LOG_LEVEL -n 3 --wdir /work python"
    )


def test_hosts_are_filled_in_their_order() -> None:
    command = command_of(request(3, options={"hosts": "a:2,b:4,c:1"}))
    assert command[command.index("-hosts") + 1] == "a:2,b:1"
    assert "--hosts=a:2,b:1" in command
    assert command[command.index("-n") + 1] == "3"


def test_a_dry_run_has_the_flags_of_the_job() -> None:
    given = request(2, log_dir=Path("/logs"), environment={"A": "b c"}, gpus_per_worker=1)
    command = command_of(given)
    assert {"--log_dir=/logs", "--env=A=b c", "--gpus_per_worker=1", "--restart=0"} <= set(command)
    assert command[-3:] == ["--", "python", "t.py"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_ps": 1}, r"`--num_ps` must be 0 with --engine=mpi.*Received: --num_ps=1"),
        ({"num_data_workers": 2}, r"`--num_data_workers` must be 0 with --engine=mpi"),
        ({"memory": 1 << 30}, r"`--memory` must be left out with --engine=mpi"),
        ({"options": {"hosts": "a:2,b:1"}}, r"a place for each of the 4 workers.*with 3"),
        ({"options": {"hosts": "a:2,a:2"}}, r"`--option hosts` must be different names"),
        ({"options": {"hosts": "[::1]:2"}}, r"`--option hosts` must be different names"),
        ({"options": {"base_port": "80"}}, r"`--option base_port` must be .*base_port='80'"),
        ({"options": {"launcher": "true"}}, r"mpiexec or mpirun of Open MPI, MPICH or Intel MPI"),
    ],
)
def test_what_mpi_cannot_do_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        command_of(request(**given))  # type: ignore[arg-type]


def test_a_missing_launcher_is_named_with_the_cure() -> None:
    with pytest.raises(EngineFailed, match=r"no-mpiexec is not on PATH\. Install one"):
        command_of(request(options={"launcher": "no-mpiexec"}))


def test_reports_are_taken_out_of_the_output_also_behind_an_unfinished_line() -> None:
    reason = ExitReason("ValueError: x", is_own=True)
    end = EndReport(1, -9, 2.5, 1e9, reason=reason)
    reports = Reports("digits-1.0")
    begun = begin_line(3, "digits-1.0")
    text = f"[worker 0] epoch\n[worker 0] half {end_line(end, 'digits-1.0')}{begun}"
    rest, ends = reports.take(text.encode())
    assert rest == b"[worker 0] epoch\n[worker 0] half "
    assert ends == [end]
    assert reports.begun == {3}
    assert reports.ends == {1: end}


def test_reports_of_another_start_are_left_alone() -> None:
    end = EndReport(0, 0, 1.0, 1e9, reason=None)
    line = end_line(end, "digits-1.0").encode()
    assert Reports("digits-1.1").take(line) == (line, [])
