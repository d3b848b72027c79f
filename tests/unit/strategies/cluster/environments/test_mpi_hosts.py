"""The cluster of MPI processes on several hosts, from TFSCALE_MPI_HOSTS."""

from __future__ import annotations

import pytest

from strategies.cluster.environments import cluster_from_mpi
from strategies.cluster.environments.mpi import stands_on

# Process 1 of three, as in test_environments.py.
OPEN_MPI = {
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "3",
}
HYDRA = {"MPI_LOCALRANKID": "1", "PMI_RANK": "1", "PMI_SIZE": "3"}
# Two hosts, as `tfscale launch --engine=mpi --option hosts=a:2,b:1` sets it.
HOSTS = {"TFSCALE_MPI_HOSTS": "a:2,b:1", "TFSCALE_BASE_PORT": "23000"}


@pytest.mark.parametrize("recorded", [OPEN_MPI, HYDRA], ids=["Open MPI", "Hydra"])
def test_mpi_processes_of_listed_hosts_have_the_addresses_of_their_hosts(
    recorded: dict[str, str],
) -> None:
    names = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
    rank, local = names if names[0] in recorded else ("PMI_RANK", "MPI_LOCALRANKID")
    for index, (host, local_rank) in enumerate([("a", 0), ("a", 1), ("b", 0)]):
        environ = recorded | HOSTS | {rank: str(index), local: str(local_rank)}
        cluster = cluster_from_mpi(environ, is_here=host.__eq__)
        assert cluster is not None
        assert cluster.worker_index == index
        assert cluster.jobs["worker"] == ("a:23000", "a:23001", "b:23000")


@pytest.mark.parametrize(
    ("changed", "here", "message"),
    [
        ({}, "b", r"rank 1 should be process 1 of host 'a'.*of which 'a' is no address"),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "0"}, "a", r"It is process 0 of host .*is an address"),
        ({"TFSCALE_MPI_HOSTS": "a:2,b:2"}, "a", r"must list the 3 processes .* with 4"),
        ({"TFSCALE_MPI_HOSTS": "a:2,a:1"}, "a", r"must be different names"),
        ({"TFSCALE_MPI_HOSTS": "a:0,b:3"}, "a", r"must be different names"),
        ({"TFSCALE_MPI_HOSTS": "a;2"}, "a", r"must be different names .*Example: a:2,b:2"),
    ],
)
def test_a_wrong_list_of_mpi_hosts_is_refused(
    changed: dict[str, str], here: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_from_mpi(OPEN_MPI | HOSTS | changed, is_here=lambda name: name == here)


def test_this_host_has_its_own_addresses_and_no_others() -> None:
    assert stands_on("127.0.0.1")
    assert not stands_on("192.0.2.77")  # RFC 5737: of no host
    assert not stands_on("no-such-host.invalid")
