"""A process that a worker starts for itself inherits no cluster, whatever the worker's engine."""

from __future__ import annotations

import pytest

from strategies.cluster.environments import (
    cluster_from_environment,
    data_workers,
    job_starts,
)
from strategies.cluster.environments.one_process import environment_of_one_process

PLAIN = {
    "PATH": "/usr/bin",
    "CUDA_VISIBLE_DEVICES": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TFSCALE_NOTICE_SECONDS": "60",
    "HYDRA_IFACE": "eth0",
    "PMIC": "not of MPI",
}
CLUSTERS = {
    "TF_CONFIG": {
        "TF_CONFIG": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'
    },
    "Open MPI": {
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": "1",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1",
        "OMPI_MCA_ess_base_vpid": "1",
        "PMIX_RANK": "1",
        "PRTE_LAUNCHED": "1",
    },
    "MPICH": {
        "PMI_SIZE": "2",
        "PMI_RANK": "1",
        "PMI_FD": "9",
        "MPI_LOCALNRANKS": "2",
        "MPI_LOCALRANKID": "1",
        "HYDI_CONTROL_FD": "5",
        "TFSCALE_MPI_HOSTS": "127.0.0.1:2",
        "TFSCALE_BASE_PORT": "2000",
    },
    "Slurm": {
        "SLURM_STEP_ID": "0",
        "SLURM_STEPID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "n2,n10",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
        "SLURM_STEP_RESV_PORTS": "12000-12001",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "1",
        "SLURM_TASK_PID": "77",
        "SLURM_DISTRIBUTION": "block",
    },
    "Kubernetes": {
        "JOB_COMPLETION_INDEX": "1",
        "TFSCALE_NUM_WORKERS": "2",
        "TFSCALE_WORKER_ADDRESS": "digits-{index}.digits:2222",
        "TFSCALE_CHIEF_ADDRESS": "chief:1",
        "TFSCALE_NUM_PS": "1",
        "TFSCALE_PS_ADDRESS": "ps-{index}:2",
        "TFSCALE_TASK_TYPE": "worker",
    },
}
SLURM_JOB = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "4"}


def found(environ: dict[str, str]) -> object:
    answer = (
        "JobId=7 NodeList=n2,n10\n"
        "NodeName=n2 NodeAddr=10.0.0.2 NodeHostName=n2\n"
        "NodeName=n10 NodeAddr=10.0.0.10 NodeHostName=n10\n"
    )
    return cluster_from_environment(environ, scontrol=lambda *_: answer)


@pytest.mark.parametrize("engine", CLUSTERS)
def test_nothing_of_a_cluster_is_left_and_all_else_is(engine: str) -> None:
    job = SLURM_JOB if engine == "Slurm" else {}
    environ = {**PLAIN, **job, **CLUSTERS[engine]}
    if engine != "Slurm":  # its answers are those of scontrol; see test_slurm.py
        assert found(environ) is not None
    left = environment_of_one_process(environ)
    assert found(left) is None
    assert set(left) - {"SLURM_DISTRIBUTION"} == {*PLAIN, *job}


def test_a_probe_is_no_start_of_the_job_and_reads_from_no_data_worker() -> None:
    environ = {
        **PLAIN,
        "TFSCALE_JOB_ID": "digits-7f3a21",
        "TFSCALE_RESTART": "2",
        "TFSCALE_EXIT_REASON": "/logs/worker-1.json",
        "TFSCALE_DATA_WORKERS": "127.0.0.1:21000",
        "TFSCALE_DATA_WORKER": "0",
        "PMI_PORT": "127.0.0.1:21001",
        "PMI_ID": "1",
    }
    assert job_starts(environ)
    assert data_workers(environ) is not None
    left = environment_of_one_process(environ)
    assert left == PLAIN
    assert job_starts(left) == ()
    assert data_workers(left) is None
