"""The command lines of `mpiexec` and `mpirun`: of Open MPI, and of MPICH and its relatives."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence

# Open MPI gives remote processes the variables of their host's shell, and these. MPICH gives all.
_PASSED = re.compile(
    r"(PYTHON|TF_|TFSCALE_|KERAS_|CUDA_|NCCL_|XLA_|OMP_).*|PATH|LD_LIBRARY_PATH|VIRTUAL_ENV"
)


class Implementation(enum.Enum):
    """An implementation of MPI, as far as its launcher's flags go."""

    OPEN_MPI = "Open MPI"
    HYDRA = "MPICH"


def implementation(launcher: str, version: str) -> Implementation:
    """Returns whose launcher it is.

    Args:
        launcher: The program, for the error.
        version: What it prints with `--version`.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> implementation("mpirun", "mpirun (Open MPI) 5.0.11")
        <Implementation.OPEN_MPI: 'Open MPI'>
    """
    if "Open MPI" in version or "OpenRTE" in version:
        return Implementation.OPEN_MPI
    if "HYDRA" in version or "Intel(R) MPI" in version:
        return Implementation.HYDRA
    raise ValueError(
        "`--option launcher` must be the mpiexec or mpirun of Open MPI, MPICH or Intel MPI. "
        f"Received: launcher={launcher!r}, whose version is {version.strip()[:100]!r}."
    )


def mpi_command(
    launcher: str,
    kind: Implementation,
    hosts: Sequence[tuple[str, int]],
    worker: Sequence[str],
    *,
    folder: str,
    environ: Mapping[str, str],
    added: Sequence[str] = (),
) -> tuple[str, ...]:
    """Returns the command that runs one process for each worker, host by host.

    Args:
        launcher: mpiexec or mpirun.
        kind: Whose launcher it is.
        hosts: The hosts in the order of their ranks, each with its number of workers.
        worker: The command of each worker.
        folder: Its working directory, on every host.
        environ: The environment of the launcher.
        added: Arguments for the launcher.

    Example:
        >>> hosts = [("a", 2), ("b", 2)]
        >>> command = mpi_command(
        ...     "mpiexec", Implementation.HYDRA, hosts, ["python"], folder="/work", environ={}
        ... )
        >>> " ".join(command)
        'mpiexec -hosts a:2,b:2 -n 4 -wdir /work python'
    """
    listed = ",".join(f"{host}:{count}" for host, count in hosts)
    total = str(sum(count for _, count in hosts))
    if kind is Implementation.HYDRA:
        # Not -disable-auto-cleanup: it sends SIGUSR1 to the others whenever one ends, as the
        # launcher of tfscale does to end them.
        options = ("-hosts", listed, *added)
        return (launcher, *options, "-n", total, "-wdir", folder, *worker)
    # By default Open MPI binds each of two processes to one core, and more to a socket.
    placed = ("--host", listed, "--map-by", "slot", "--bind-to", "none", *added)
    passed = [word for name in sorted(environ) if _PASSED.fullmatch(name) for word in ("-x", name)]
    return (launcher, *placed, *passed, "-n", total, "--wdir", folder, *worker)


def once_per_host(
    launcher: str,
    kind: Implementation,
    hosts: Sequence[str],
    program: Sequence[str],
    added: Sequence[str],
) -> tuple[str, ...]:
    """Returns the command that runs a program once on every host.

    Args:
        launcher: mpiexec or mpirun.
        kind: Whose launcher it is.
        hosts: The hosts.
        program: The program and its arguments.
        added: Arguments for the launcher.
    """
    each = [(host, 1) for host in hosts]
    return mpi_command(launcher, kind, each, program, folder="/", environ={}, added=added)
