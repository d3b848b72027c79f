"""Steps recorded from Slurm 22.05.8 (hosts n1, n2 and n10 with four processors each)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from strategies.cluster.cluster import Cluster
from strategies.cluster.environments import cluster_from_slurm
from strategies.cluster.environments.scontrol import scontrol_answer
from strategies.cluster.environments.slurm_notation import (
    expand_counts,
    expand_ports,
    place_tasks,
)

HOSTNAMES = {
    "n1": "n1\n",
    "n[1-2]": "n1\nn2\n",
    "n[2,10]": "n2\nn10\n",
    "n[1-2,10]": "n1\nn2\nn10\n",
}
ADDRESSES = {"n1": "10.88.0.1", "n2": "10.88.0.2", "n10": "10.88.0.10"}


def recorded_scontrol(addresses: dict[str, str]) -> Callable[[Sequence[str]], str]:
    def answer(arguments: Sequence[str]) -> str:
        assert arguments[:2] in (("show", "hostnames"), ("show", "node"))
        hosts = HOSTNAMES[arguments[2]]
        if arguments[1] == "hostnames":
            return hosts
        assert arguments[3:] == ("--oneliner",)
        return "".join(
            f"NodeName={host} Arch=x86_64 CoresPerSocket=1 Gres=(null) NodeAddr={addresses[host]} "
            "NodeHostName=vm Port=17001 Version=22.05.8\n"
            for host in hosts.split()
            if host in addresses
        )

    return answer


def step(
    where: str,
    nodelist: str,
    counts: str,
    ports: str = "12000-12099",
    **distribution: str,
) -> list[dict[str, str]]:
    """Returns the environment of every task, `where` being the recorded host of each."""
    hosts = where.split()
    return [
        {
            "SLURM_JOB_ID": "12",
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NUM_TASKS": str(len(hosts)),
            "SLURM_STEP_NODELIST": nodelist,
            "SLURM_STEP_TASKS_PER_NODE": counts,
            "SLURM_STEP_RESV_PORTS": ports,
            "SLURM_PROCID": str(task),
            "SLURMD_NODENAME": host,
            **distribution,
        }
        for task, host in enumerate(hosts)
    ]


def clusters_of(environs: list[dict[str, str]]) -> list[Cluster]:
    found = [cluster_from_slurm(one, scontrol=recorded_scontrol(ADDRESSES)) for one in environs]
    return [cluster for cluster in found if cluster is not None]


RECORDED = [
    pytest.param(
        step("n1 n2 n10", "n[1-2,10]", "1(x3)", "12001-12002"),
        id="srun -N3 -n3: fewer ports than tasks, because each host has all ports",
    ),
    pytest.param(
        step("n1 n1 n1 n1 n2 n2 n10", "n[1-2,10]", "4,2,1", "12003-12007"),
        id="srun -N3 -n7: no distribution is block, n10 comes last",
    ),
    pytest.param(
        step("n1 n2 n10 n1 n2 n1 n2 n1 n2", "n[1-2,10]", "4(x2),1", "12018-12022",
             SLURM_DISTRIBUTION="cyclic:block"),
        id="srun -m cyclic:block with a full host",
    ),
    pytest.param(
        step("n1 n1 n2 n2 n10 n1 n1 n2 n2", "n[1-2,10]", "4(x2),1", "12023-12027",
             SLURM_DISTRIBUTION="plane", SLURM_DIST_PLANESIZE="2"),
        id="srun -m plane=2 with a full host",
    ),
    pytest.param(
        step("n1 n1 n1 n1 n2 n2 n2 n2 n10 n1", "n[1-2,10]", "5,4,1", "12033-12038",
             SLURM_DISTRIBUTION="plane", SLURM_DIST_PLANESIZE="4"),
        id="srun -O -m plane=4, overcommitted",
    ),
    pytest.param(
        step("n1 n1 n1 n1 n2 n2 n10", "n[1-2,10]", "4,2,1", "12047-12051",
             SLURM_DISTRIBUTION="block:cyclic,nopack"),
        id="srun -m block:cyclic,NoPack",
    ),
    pytest.param(
        step("n2 n10", "n[2,10]", "1(x2)", "12000-12005,12097"), id="ports in two ranges"
    ),
]  # fmt: skip


@pytest.mark.parametrize("environs", RECORDED)
def test_every_task_of_a_recorded_step_finds_the_same_cluster_and_its_own_host(
    environs: list[dict[str, str]],
) -> None:
    clusters = clusters_of(environs)
    assert len(clusters) == len(environs)
    assert len({cluster.jobs["worker"] for cluster in clusters}) == 1
    reserved = expand_ports(environs[0]["SLURM_STEP_RESV_PORTS"])
    for task, (cluster, environ) in enumerate(zip(clusters, environs, strict=True)):
        host, port = cluster.address.split(":")
        assert host == ADDRESSES[environ["SLURMD_NODENAME"]]
        assert int(port) in reserved
        assert (cluster.worker_index, cluster.source) == (task, "Slurm step 12.0")


def test_several_slurmd_on_one_machine_share_its_ports() -> None:
    environ = step("n1 n2 n10", "n[1-2,10]", "1(x3)", "12085-12087")[1]
    one_machine = recorded_scontrol(dict.fromkeys(ADDRESSES, "127.0.0.1"))
    cluster = cluster_from_slurm(environ, scontrol=one_machine)
    assert cluster is not None
    assert cluster.jobs["worker"] == ("127.0.0.1:12085", "127.0.0.1:12086", "127.0.0.1:12087")
    environ["SLURM_STEP_RESV_PORTS"] = "12083-12084"
    with pytest.raises(ValueError, match=r"must contain 3 ports.*--resv-ports=3"):
        cluster_from_slurm(environ, scontrol=one_machine)


def test_without_reserved_ports_they_are_computed_from_job_and_step() -> None:
    environ = step("n1 n2 n10", "n[1-2,10]", "1(x3)")[0]
    del environ["SLURM_STEP_RESV_PORTS"]
    addresses = set()
    for job, number in (("12", "0"), ("12", "1"), ("13", "0")):
        changed = environ | {"SLURM_JOB_ID": job, "SLURM_STEP_ID": number}
        addresses.add(clusters_of([changed])[0].address)
    # 20000 + 64 (job + 13 step mod 181)
    assert addresses == {"10.88.0.1:20768", "10.88.0.1:21600", "10.88.0.1:20832"}


def test_a_base_port_has_precedence_over_reserved_ports() -> None:
    environ = step("n1 n1", "n1", "2")[1] | {"TFSCALE_BASE_PORT": "23000"}
    assert clusters_of([environ])[0].address == "10.88.0.1:23001"


def test_an_ipv6_host_address_gets_its_brackets() -> None:
    scontrol = recorded_scontrol({"n1": "fd00::1"})
    cluster = cluster_from_slurm(step("n1 n1", "n1", "2")[0], scontrol=scontrol)
    assert cluster is not None
    assert cluster.address == "[fd00::1]:12000"


def no_scontrol(arguments: Sequence[str]) -> str:
    raise AssertionError(f"asked {arguments}")


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param(
            {"SLURM_JOB_ID": "16", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_NODEID": "0",
             "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "3,1", "SLURM_NNODES": "2",
             "SLURMD_NODENAME": "n1"},
            id="the script of sbatch -N2 -n4",
        ),
        pytest.param({"SLURM_JOB_ID": "17", "SLURM_NTASKS": "2"}, id="the shell of salloc -n2"),
        pytest.param(step("n1", "n1", "1")[0], id="srun -n1: a shell, or one process"),
        pytest.param(
            step("n1 n2", "n[1-2]", "1(x2)")[0] | {"OMPI_COMM_WORLD_RANK": "2"},
            id="mpirun in salloc: recorded, processes 0 to 2 all have SLURM_PROCID 0",
        ),
        pytest.param(
            step("n1 n2", "n[1-2]", "1(x2)")[0] | {"PMI_RANK": "2", "PMI_SIZE": "4"},
            id="mpiexec.hydra in salloc, the same",
        ),
    ],
)  # fmt: skip
def test_slurm_variables_outside_a_step_of_this_program_are_no_cluster(
    environ: dict[str, str],
) -> None:
    assert cluster_from_slurm(environ, scontrol=no_scontrol) is None


def test_a_step_started_with_pmi2_is_a_step_of_this_program() -> None:
    environ = step("n1 n1", "n1", "2")[1] | {"PMI_RANK": "1", "PMI_SIZE": "2"}
    assert clusters_of([environ])[0].worker_index == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param(
            {"SLURM_DISTRIBUTION": "arbitrary"}, r"must be block, cyclic or plane", id="hostfile"
        ),
        pytest.param(
            {"SLURM_DISTRIBUTION": "plane"}, r"`SLURM_DIST_PLANESIZE` must be", id="plane unknown"
        ),
        pytest.param({"SLURM_HET_SIZE": "2"}, r"`SLURM_HET_SIZE` must be unset", id="hetjob"),
        pytest.param(
            {"SLURMD_NODENAME": "n2"},
            r"`SLURMD_NODENAME` must be 'n1', the host of task 0 .*--distribution=block",
            id="the tasks are not where they are computed to be",
        ),
        pytest.param({"SLURM_PROCID": "9"}, r"must be 'no host'", id="a task too many"),
        pytest.param(
            {"SLURM_STEP_TASKS_PER_NODE": "2"}, r"the 3 tasks of 2 hosts", id="a host without count"
        ),
        pytest.param({"SLURM_STEP_TASKS_PER_NODE": "2,2"}, r"the 3 tasks", id="counts too high"),
        pytest.param({"SLURM_STEP_TASKS_PER_NODE": "2x1"}, r"must look like", id="counts garbled"),
        pytest.param(
            {"SLURM_STEP_RESV_PORTS": "12001"}, r"must contain 2 ports", id="too few ports"
        ),
        pytest.param({"SLURM_STEP_RESV_PORTS": "a-b"}, r"must look like", id="ports garbled"),
        pytest.param({"SLURM_STEP_NODELIST": ""}, r"`SLURM_STEP_NODELIST` must be set", id="hosts"),
        pytest.param({"SLURM_PROCID": ""}, r"`SLURM_PROCID` must be an integer", id="task"),
    ],
)
def test_a_step_that_does_not_place_its_tasks_is_refused(
    changed: dict[str, str], message: str
) -> None:
    environ = step("n1 n1 n2", "n[1-2]", "2,1")[0] | changed
    with pytest.raises(ValueError, match=message):
        cluster_from_slurm(environ, scontrol=recorded_scontrol(ADDRESSES))


def test_a_host_without_an_address_in_slurm_is_refused() -> None:
    scontrol = recorded_scontrol({"n1": "10.88.0.1"})
    with pytest.raises(ValueError, match=r"must give the NodeAddr of \['n2'\]"):
        cluster_from_slurm(step("n1 n2", "n[1-2]", "1(x2)")[0], scontrol=scontrol)


def by_rounds(hosts: list[str], counts: list[int], stride: int) -> list[str]:
    """Task by task instead of host by host: task k of a host is placed in round k // stride."""
    dealt = [
        (task // stride, position, task, host)
        for position, (host, count) in enumerate(zip(hosts, counts, strict=True))
        for task in range(count)
    ]
    return [host for *_, host in sorted(dealt)]


@pytest.mark.parametrize("seed", range(40))
def test_placements_equal_placing_the_tasks_one_by_one(seed: int) -> None:
    draw = random.Random(seed)
    counts = [draw.randint(0, 5) for _ in range(draw.randint(1, 5))]
    hosts = [f"n{index}" for index in range(len(counts))]
    for stride in (1, 2, 3, max(1, sum(counts))):
        assert place_tasks(hosts, counts, stride=stride) == by_rounds(hosts, counts, stride)
    block = place_tasks(hosts, counts, stride=max(1, sum(counts)))
    assert block == sorted(block, key=hosts.index)


@pytest.mark.parametrize(
    ("text", "counts"), [("4", [4]), ("2(x3),1", [2, 2, 2, 1]), ("1(x2),2", [1, 1, 2])]
)
def test_run_lengths_expand(text: str, counts: list[int]) -> None:
    assert expand_counts(text) == counts


def install_scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = folder / "scontrol"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_scontrol_is_run_with_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_scontrol(tmp_path, monkeypatch, 'echo "$@"')
    assert scontrol_answer(("show", "hostnames", "n[1-2]")) == "show hostnames n[1-2]\n"


def test_a_failing_scontrol_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_scontrol(tmp_path, monkeypatch, "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(RuntimeError, match=r"Unable to contact slurm controller.*set TF_CONFIG"):
        scontrol_answer(("show", "node"))


def test_a_scontrol_that_does_not_answer_is_an_error_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_scontrol(tmp_path, monkeypatch, "exec sleep 600")
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"must answer within 0\.2 s"):
        scontrol_answer(("show", "node"), deadline_seconds=0.2)
    assert time.monotonic() - start < 300


def test_a_missing_scontrol_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"must be on PATH .*Install Slurm's client commands"):
        scontrol_answer(("show", "node"))
