"""The cluster of `mpirun` or `mpiexec` on one host: each process is a worker.

    mpirun -n 4 python train.py

MPI's environment contains the rank of a process and the size of the job, but no host list, so a job
on several hosts is an error. The variables are those of Open MPI and of the Hydra process manager
(MPICH, Intel MPI).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import NamedTuple

from strategies.cluster.cluster import Cluster
from strategies.cluster.environments.ports import computed_ports
from strategies.cluster.environments.variables import integer_variable

_CURE = "Start the program with mpirun or mpiexec, or set TF_CONFIG in every process."


class _Launcher(NamedTuple):
    name: str
    size: str
    rank: str
    local_size: str


_LAUNCHERS = (
    _Launcher(
        "Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"
    ),
    _Launcher("MPI (Hydra)", "PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS"),
)


def cluster_from_mpi(environ: Mapping[str, str]) -> Cluster | None:
    """Returns the cluster of the MPI processes on this host.

    Every process is a worker on 127.0.0.1. MPI assigns no ports, so they are computed, for Open MPI
    from the name of the job. Hydra does not name jobs, so two jobs of `mpiexec` on one host need
    different TFSCALE_BASE_PORT (`mpiexec -genv TFSCALE_BASE_PORT 23000 ...`).

    Args:
        environ: The environment of one process.

    Returns:
        The cluster, or None outside of MPI and for a job of one process.

    Raises:
        ValueError: If the job has several hosts, or its variables contradict each other.
    """
    launcher = next((one for one in _LAUNCHERS if one.size in environ), None)
    if launcher is None:
        return None
    size = integer_variable(environ, launcher.size, minimum=1, cure=_CURE)
    if size == 1:
        return None
    rank = integer_variable(environ, launcher.rank, minimum=0, cure=_CURE)
    local_size = integer_variable(environ, launcher.local_size, minimum=1, cure=_CURE)
    if local_size != size:
        raise ValueError(
            f"`{launcher.local_size}` must equal {launcher.size}: MPI's environment does not "
            f"name other hosts. Received: {launcher.local_size}={local_size}, "
            f"{launcher.size}={size}. Set TF_CONFIG in every process, or in a Slurm allocation "
            "start with srun instead."
        )
    # A checksum, because hash() differs between processes.
    job_number = zlib.crc32(environ.get("PMIX_NAMESPACE", "").encode())
    ports = computed_ports(environ, job_number, size)
    workers = tuple(f"127.0.0.1:{port}" for port in ports)
    return Cluster({"worker": workers}, "worker", rank, source=launcher.name)
