"""The cluster of `mpirun` or `mpiexec`: each process is a worker.

    mpirun -n 4 python train.py

MPI's environment contains the rank of a process and the size of the job, but no host list. On
several hosts the list comes from TFSCALE_MPI_HOSTS, which `tfscale launch --engine=mpi` sets:

    mpirun --host a:2,b:2 --map-by slot -n 4 -x TFSCALE_MPI_HOSTS=a:2,b:2 python train.py

The variables are those of Open MPI and of the Hydra process manager (MPICH, Intel MPI).
"""

from __future__ import annotations

import re
import socket
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from strategies.cluster.cluster import Cluster
from strategies.cluster.environments.ports import BASE_PORT_VARIABLE, computed_ports
from strategies.cluster.environments.variables import integer_variable

MPI_HOSTS_VARIABLE = "TFSCALE_MPI_HOSTS"
"""The hosts of the job in the order of their ranks, with their processes: "a:2,b:2"."""
_CURE = "Start the program with mpirun or mpiexec, or set TF_CONFIG in every process."
_HOST = re.compile(r"([A-Za-z0-9_.-]+)(?::([1-9][0-9]{0,5}))?")


class _Launcher(NamedTuple):
    name: str
    size: str
    rank: str
    local_size: str
    local_rank: str


_LAUNCHERS = (
    _Launcher(
        "Open MPI",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
    ),
    _Launcher("MPI (Hydra)", "PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"),
)


def parse_hosts(text: str, name: str = MPI_HOSTS_VARIABLE) -> tuple[tuple[str, int], ...]:
    """Returns the hosts of a list such as "a:2,b:2", each with its processes; 1 if left out.

    Args:
        text: The list.
        name: What it is called in an error.

    Raises:
        ValueError: If it is malformed or has a host twice.

    Example:
        >>> parse_hosts("a:2,10.0.0.7")
        (('a', 2), ('10.0.0.7', 1))
    """
    found = [_HOST.fullmatch(word.strip()) for word in text.split(",")]
    hosts = tuple((match[1], int(match[2] or 1)) for match in found if match)
    if len(hosts) != len(found) or len({host for host, _ in hosts}) != len(hosts):
        raise ValueError(
            f"`{name}` must be different names or IPv4 addresses of hosts, each with its number of "
            f"processes. Received: {name}={text!r}. Example: a:2,b:2."
        )
    return hosts


def mpi_environment(hosts: str, base_port: int) -> dict[str, str]:
    """Returns the variables that `cluster_from_mpi` reads besides those of MPI.

    Args:
        hosts: The hosts of the job, as `parse_hosts` reads them; empty if all is on this host.
        base_port: The first port of the workers of each host.
    """
    return {MPI_HOSTS_VARIABLE: hosts, BASE_PORT_VARIABLE: str(base_port)}


def stands_on(host: str) -> bool:
    """Returns whether a name or address is one of this host: whether a socket can bind to it."""
    try:
        addresses = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as one:
                one.bind(address)
        except OSError:
            continue
        return True
    return False


def cluster_from_mpi(
    environ: Mapping[str, str], *, is_here: Callable[[str], bool] = stands_on
) -> Cluster | None:
    """Returns the cluster of the MPI processes that `environ` describes.

    Every process is a worker. Without TFSCALE_MPI_HOSTS all are on 127.0.0.1. With it, ranks are
    placed host by host ("block", `--map-by slot`): with "a:2,b:2" ranks 0 and 1 are on a, 2 and 3
    on b. Each process checks that it stands there; if none raises, the whole list is right.

    MPI assigns no ports, so they are computed, for Open MPI from the name of the job. Hydra does
    not name jobs, so two jobs of `mpiexec` on one host need different TFSCALE_BASE_PORT (`mpiexec
    -genv TFSCALE_BASE_PORT 23000 ...`). `tfscale launch --engine=mpi` sets it.

    Args:
        environ: The environment of one process.
        is_here: Tells whether a name or address is one of this host. Called with TFSCALE_MPI_HOSTS
            only.

    Returns:
        The cluster, or None outside of MPI and for a job of one process.

    Raises:
        ValueError: If the job has several hosts that are not listed, or this process stands on
            another host than the list says, or the variables contradict each other.
    """
    launcher = next((one for one in _LAUNCHERS if one.size in environ), None)
    if launcher is None:
        return None
    size = integer_variable(environ, launcher.size, minimum=1, cure=_CURE)
    if size == 1:
        return None
    rank = integer_variable(environ, launcher.rank, minimum=0, cure=_CURE)
    if environ.get(MPI_HOSTS_VARIABLE):
        return _cluster_of_hosts(environ, launcher, size, rank, is_here)
    local_size = integer_variable(environ, launcher.local_size, minimum=1, cure=_CURE)
    if local_size != size:
        raise ValueError(
            f"`{launcher.local_size}` must equal {launcher.size}: MPI's environment does not "
            f"name other hosts. Received: {launcher.local_size}={local_size}, "
            f"{launcher.size}={size}. Start with `tfscale launch --engine=mpi --option hosts=...`, "
            f"which sets {MPI_HOSTS_VARIABLE}. Or set TF_CONFIG in every process, or in a Slurm "
            "allocation start with srun instead."
        )
    workers = tuple(f"127.0.0.1:{port}" for port in _ports(environ, size))
    return Cluster({"worker": workers}, "worker", rank, source=launcher.name)


def _ports(environ: Mapping[str, str], count: int) -> list[int]:
    # A checksum, because hash() differs between processes.
    job_number = zlib.crc32(environ.get("PMIX_NAMESPACE", "").encode())
    return computed_ports(environ, job_number, count)


def _cluster_of_hosts(
    environ: Mapping[str, str],
    launcher: _Launcher,
    size: int,
    rank: int,
    is_here: Callable[[str], bool],
) -> Cluster:
    listed = environ[MPI_HOSTS_VARIABLE]
    hosts = parse_hosts(listed)
    places = [(host, ordinal) for host, count in hosts for ordinal in range(count)]
    if len(places) != size or rank >= size:
        raise ValueError(
            f"`{MPI_HOSTS_VARIABLE}` must list the {size} processes of {launcher.size}. Received: "
            f"{MPI_HOSTS_VARIABLE}={listed!r} with {len(places)}, {launcher.rank}={rank}. "
            "Example for four: a:2,b:2."
        )
    host, ordinal = places[rank]
    local_rank = integer_variable(environ, launcher.local_rank, minimum=0, cure=_CURE)
    if not is_here(host) or local_rank != ordinal:
        raise ValueError(
            f"`{MPI_HOSTS_VARIABLE}` must have the hosts in the order of their ranks: rank {rank} "
            f"should be process {ordinal} of host {host!r}. It is process {local_rank} of host "
            f"{socket.gethostname()!r}, of which {host!r} is {'an' if is_here(host) else 'no'} "
            f"address. Received: {MPI_HOSTS_VARIABLE}={listed!r}. Place ranks host by host (Open "
            "MPI: --map-by slot; MPICH does so), and use names that every host knows."
        )
    ports = _ports(environ, max(count for _, count in hosts))
    workers = tuple(f"{host}:{ports[ordinal]}" for host, ordinal in places)
    return Cluster({"worker": workers}, "worker", rank, source=launcher.name)
