"""Environments recorded from real launchers, and the cluster of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from strategies.cluster.cluster import Cluster
from strategies.cluster.environments import (
    TpuEnvironment,
    cluster_from_environment,
    cluster_from_kubernetes,
    cluster_from_mpi,
    notice_seconds_from_environment,
    start_seconds_from_environment,
    tpu_environment,
)
from strategies.cluster.environments.ports import computed_ports

# Open MPI 4.1.4: mpirun -n 3, process 1.
OPEN_MPI = {
    "OMPI_APP_CTX_NUM_PROCS": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "3",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "3",
    "PMIX_NAMESPACE": "592248833",
    "PMIX_RANK": "1",
}
# MPICH 4.0.2: mpiexec.hydra -n 3, process 1.
HYDRA = {
    "HYDI_CONTROL_FD": "7",
    "MPI_LOCALNRANKS": "3",
    "MPI_LOCALRANKID": "1",
    "PMI_FD": "8",
    "PMI_RANK": "1",
    "PMI_SIZE": "3",
}
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "n1",
    "SLURM_STEP_TASKS_PER_NODE": "2",
    "SLURM_PROCID": "1",
    "SLURMD_NODENAME": "n1",
}
KUBERNETES = {
    "JOB_COMPLETION_INDEX": "1",
    "TFSCALE_NUM_WORKERS": "3",
    "TFSCALE_WORKER_ADDRESS": "digits-worker-0-{index}.digits:2222",
}
TF_CONFIG = {"TF_CONFIG": Cluster({"worker": ("a:1", "b:1")}, "worker", 1).to_tf_config()}
TPU = {
    "TPU_ACCELERATOR_TYPE": "v4-16",
    "TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2",
    "TPU_WORKER_ID": "1",
}


def one_slurm_host(arguments: Sequence[str]) -> str:
    return "n1\n" if "hostnames" in arguments else "NodeName=n1 NodeAddr=10.0.0.1 Port=6818\n"


def no_slurm(arguments: Sequence[str]) -> str:
    raise AssertionError(f"scontrol was asked outside a step: {arguments}")


@pytest.mark.parametrize(
    ("environ", "source"),
    [
        pytest.param(TF_CONFIG | SLURM, "TF_CONFIG", id="a launcher inside a step wrote it"),
        pytest.param(TF_CONFIG | OPEN_MPI | KUBERNETES, "TF_CONFIG", id="a manifest wrote it"),
        pytest.param(SLURM | KUBERNETES, "Slurm step 7.0", id="Slurm before Kubernetes"),
        pytest.param(SLURM | OPEN_MPI, "Open MPI", id="that step runs the daemons of mpirun"),
        pytest.param(OPEN_MPI | KUBERNETES, "Open MPI", id="mpirun inside a pod"),
        pytest.param(HYDRA, "MPI (Hydra)", id="mpiexec"),
        pytest.param(KUBERNETES | TPU, "Kubernetes Indexed Job", id="a TPU pod is no such cluster"),
        pytest.param({"TF_CONFIG": " { } "} | HYDRA, "MPI (Hydra)", id="{} means unset"),
    ],
)
def test_the_first_engine_in_the_order_of_precedence_answers(
    environ: dict[str, str], source: str
) -> None:
    scontrol = one_slurm_host if source.startswith("Slurm") else no_slurm
    cluster = cluster_from_environment(environ, scontrol=scontrol)
    assert cluster is not None
    assert cluster.source == source
    assert cluster.worker_index == 1


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="nothing set"),
        pytest.param({"TF_CONFIG": ""}, id="empty TF_CONFIG"),
        pytest.param({"TF_CONFIG": "{}"}, id="TF_CONFIG as TensorFlow reads an unset one"),
        pytest.param(TPU, id="a TPU pod"),
        pytest.param({"JOB_COMPLETION_INDEX": "3"}, id="an Indexed Job of separate runs"),
        pytest.param({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, id="mpirun -n 1"),
        pytest.param({"PMI_RANK": "0", "PMI_SIZE": "1"}, id="srun --mpi=pmi2 -n 1"),
    ],
)
def test_a_process_without_an_engine_has_no_cluster(environ: dict[str, str]) -> None:
    assert cluster_from_environment(environ, scontrol=no_slurm) is None


def test_the_process_environment_is_read_when_none_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TF_CONFIG", TF_CONFIG["TF_CONFIG"])
    cluster = cluster_from_environment()
    assert cluster is not None
    assert json.loads(cluster.to_tf_config()) == json.loads(TF_CONFIG["TF_CONFIG"])


def test_a_corrupt_tf_config_is_refused_and_not_ignored() -> None:
    with pytest.raises(ValueError, match=r"`TF_CONFIG` must be JSON"):
        cluster_from_environment({"TF_CONFIG": "{'cluster': 1}"} | HYDRA)


@pytest.mark.parametrize("recorded", [OPEN_MPI, HYDRA], ids=["Open MPI", "Hydra"])
def test_the_processes_of_one_mpi_job_agree_on_the_addresses(recorded: dict[str, str]) -> None:
    rank = "OMPI_COMM_WORLD_RANK" if "OMPI_COMM_WORLD_RANK" in recorded else "PMI_RANK"
    clusters = [cluster_from_mpi(recorded | {rank: str(index)}) for index in range(3)]
    found = [cluster for cluster in clusters if cluster is not None]
    assert [cluster.worker_index for cluster in found] == [0, 1, 2]
    assert len({cluster.jobs["worker"] for cluster in found}) == 1
    assert all(address.startswith("127.0.0.1:") for address in found[0].jobs["worker"])


def test_two_jobs_of_open_mpi_on_one_host_listen_on_different_ports() -> None:
    # Two names that mpirun gave on one host, one after the other.
    first = cluster_from_mpi(OPEN_MPI)
    second = cluster_from_mpi(OPEN_MPI | {"PMIX_NAMESPACE": "592379905"})
    assert first is not None
    assert second is not None
    assert not set(first.jobs["worker"]) & set(second.jobs["worker"])


def test_a_base_port_is_taken_as_given() -> None:
    cluster = cluster_from_mpi(HYDRA | {"TFSCALE_BASE_PORT": "23000"})
    assert cluster is not None
    assert cluster.jobs["worker"] == ("127.0.0.1:23000", "127.0.0.1:23001", "127.0.0.1:23002")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param(
            OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
            r"`OMPI_COMM_WORLD_LOCAL_SIZE` must equal .*set TF_CONFIG .* srun",
            id="several hosts, and no list of them",
        ),
        pytest.param(HYDRA | {"MPI_LOCALNRANKS": "1"}, r"`MPI_LOCALNRANKS` must equal", id="same"),
        pytest.param(
            {"PMI_RANK": "0", "PMI_SIZE": "3"},
            r"`MPI_LOCALNRANKS` must be a positive integer\. Received: MPI_LOCALNRANKS=None",
            id="another process manager, without the number of local processes",
        ),
        pytest.param(
            OPEN_MPI | {"OMPI_COMM_WORLD_RANK": "3"}, r"`task_index` must be from 0 to 2", id="rank"
        ),
        pytest.param(
            OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "many"}, r"OMPI_COMM_WORLD_SIZE='many'", id="size"
        ),
    ],
)
def test_mpi_variables_without_a_cluster_in_them_are_refused(
    changed: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_from_mpi(changed)


def test_computed_ports_of_consecutive_jobs_do_not_overlap() -> None:
    # 181 jobs in a row fill 20000 to 31583, below Linux's first outgoing port.
    ports = [port for job in range(1000, 1181) for port in computed_ports({}, job, 64)]
    assert len(set(ports)) == len(ports)
    assert (min(ports), max(ports)) == (20000, 31583)


@pytest.mark.parametrize(
    ("environ", "count", "message"),
    [
        ({}, 65, r"`TFSCALE_BASE_PORT` must be set for more than 64 tasks"),
        ({"TFSCALE_BASE_PORT": "65535"}, 2, r"must leave room for 2 ports"),
        ({"TFSCALE_BASE_PORT": "0"}, 2, r"must be a positive integer"),
        ({"TFSCALE_BASE_PORT": "23_000"}, 2, r"Received: TFSCALE_BASE_PORT='23_000'"),
    ],
)
def test_ports_that_do_not_fit_are_refused(
    environ: Mapping[str, str], count: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        computed_ports(environ, 0, count)


def test_pods_of_a_job_set_are_addressed_by_their_headless_service() -> None:
    cluster = cluster_from_kubernetes(KUBERNETES)
    assert cluster is not None
    assert cluster.jobs["worker"] == (
        "digits-worker-0-0.digits:2222",
        "digits-worker-0-1.digits:2222",
        "digits-worker-0-2.digits:2222",
    )
    assert cluster.address == "digits-worker-0-1.digits:2222"


ROLES = KUBERNETES | {
    "TFSCALE_CHIEF_ADDRESS": "digits-chief-0-0.digits:2222",
    "TFSCALE_NUM_PS": "2",
    "TFSCALE_PS_ADDRESS": "digits-ps-0-{index}.digits:2222",
}


@pytest.mark.parametrize(
    ("environ", "address", "is_chief"),
    [
        pytest.param(
            ROLES | {"TFSCALE_TASK_TYPE": "ps"}, "digits-ps-0-1.digits:2222", False, id="a server"
        ),
        pytest.param(
            ROLES | {"TFSCALE_TASK_TYPE": "chief", "JOB_COMPLETION_INDEX": "0"},
            "digits-chief-0-0.digits:2222",
            True,
            id="the chief",
        ),
        pytest.param(ROLES, "digits-worker-0-1.digits:2222", False, id="a worker, by default"),
    ],
)
def test_the_replicated_jobs_of_a_job_set_are_roles_of_one_cluster(
    environ: dict[str, str], address: str, is_chief: bool
) -> None:
    cluster = cluster_from_kubernetes(environ)
    assert cluster is not None
    assert (cluster.address, cluster.is_chief) == (address, is_chief)
    assert {job: len(tasks) for job, tasks in cluster.jobs.items()} == {
        "chief": 1,
        "worker": 3,
        "ps": 2,
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"TFSCALE_NUM_PS": None}, r"`TFSCALE_NUM_PS` must be", id="no number"),
        pytest.param({"TFSCALE_PS_ADDRESS": None}, r"`TFSCALE_PS_ADDRESS` must", id="no address"),
        pytest.param(
            {"TFSCALE_TASK_TYPE": "leader"}, r"chief, worker, ps.*'leader'", id="no such role"
        ),
        pytest.param(
            {"TFSCALE_TASK_TYPE": "chief"}, r"`task_index` must be from 0 to 0", id="two chiefs"
        ),
    ],
)
def test_an_incomplete_manifest_with_roles_is_refused_with_its_cure(
    changed: dict[str, str | None], message: str
) -> None:
    environ = {name: value for name, value in (ROLES | changed).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        cluster_from_kubernetes(environ)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"TFSCALE_NUM_WORKERS": None}, r"`TFSCALE_NUM_WORKERS` must be", id="number"),
        pytest.param(
            {"TFSCALE_WORKER_ADDRESS": None}, r"`TFSCALE_WORKER_ADDRESS` must contain", id="address"
        ),
        pytest.param(
            {"TFSCALE_WORKER_ADDRESS": "digits:2222"}, r"must contain \{index\}", id="one for all"
        ),
        pytest.param({"TFSCALE_WORKER_ADDRESS": "digits-{index}"}, r"\"host:port\"", id="no port"),
        pytest.param(
            {"TFSCALE_WORKER_ADDRESS": "d-{index}.{service}:1"}, r"\"host:port\"", id="other braces"
        ),
        pytest.param(
            {"JOB_COMPLETION_INDEX": None}, r"`JOB_COMPLETION_INDEX`.*Indexed", id="not Indexed"
        ),
        pytest.param({"JOB_COMPLETION_INDEX": "3"}, r"from 0 to 2", id="more pods than declared"),
    ],
)
def test_an_incomplete_manifest_is_refused_with_its_cure(
    changed: dict[str, str | None], message: str
) -> None:
    environ = {name: value for name, value in (KUBERNETES | changed).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        cluster_from_kubernetes(environ)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param(TPU, TpuEnvironment("v4-16", 1, ("10.0.0.1", "10.0.0.2")), id="a slice"),
        pytest.param(
            {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"},
            TpuEnvironment("", 0, ("localhost",)),
            id="one VM of an unnamed type",
        ),
        pytest.param(
            {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_ID": ""},
            TpuEnvironment("v5litepod-4", 0, ()),
            id="only the type",
        ),
        pytest.param(
            {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_ID": ""}, None, id="set off a TPU VM too"
        ),
    ],
)
def test_a_tpu_vm_is_recognised_by_its_variables(
    environ: dict[str, str], expected: TpuEnvironment | None
) -> None:
    assert tpu_environment(environ) == expected


def test_a_slice_counts_its_hosts_and_a_single_vm_counts_one() -> None:
    assert TpuEnvironment("v4-16", 1, ("a", "b")).num_hosts == 2
    assert TpuEnvironment("v4-8", 0, ()).num_hosts == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"TPU_WORKER_ID": "2"}, r"`TPU_WORKER_ID` must be below 2", id="too large"),
        pytest.param({"TPU_WORKER_ID": ""}, r"`TPU_WORKER_ID` must be an integer", id="which one"),
        pytest.param({"TPU_WORKER_HOSTNAMES": "a,,b"}, r"must be different names", id="a gap"),
        pytest.param({"TPU_WORKER_HOSTNAMES": "a,a"}, r"must be different names", id="twice"),
    ],
)
def test_tpu_variables_that_contradict_each_other_are_refused(
    changed: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tpu_environment(TPU | changed)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 300.0),
        ({"TFSCALE_START_SECONDS": " 45 "}, 45.0),
        ({"TFSCALE_START_SECONDS": ""}, 300.0),
    ],
)
def test_the_launcher_sets_how_long_a_start_may_take(
    environ: dict[str, str], seconds: float
) -> None:
    assert start_seconds_from_environment(environ) == seconds


@pytest.mark.parametrize("text", ["0", "-3", "nan", "inf", "soon"])
def test_a_start_of_no_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"must be a positive, .*TFSCALE_START_SECONDS='{text}'"):
        start_seconds_from_environment({"TFSCALE_START_SECONDS": text})


def test_the_user_chooses_when_a_worker_reports_that_it_waits() -> None:
    assert notice_seconds_from_environment({}) == 30.0
    assert notice_seconds_from_environment({"TFSCALE_NOTICE_SECONDS": "90"}) == 90.0
    with pytest.raises(ValueError, match=r"must be a positive, .*TFSCALE_NOTICE_SECONDS='never'"):
        notice_seconds_from_environment({"TFSCALE_NOTICE_SECONDS": "never"})
