"""The cluster of this process, from TF_CONFIG or the environment of Slurm, MPI or Kubernetes.

    cluster = cluster_from_environment()          # None: there is no cluster
    tpu = tpu_environment(os.environ)             # None: not a Cloud TPU VM

Each engine has a module, a pure function of an environment mapping. Only `detection` reads the
environment of the process. Needs no TensorFlow.
"""

from strategies.cluster.environments.data_workers import (
    DATA_WORKER_VARIABLE,
    DATA_WORKERS_VARIABLE,
    DataWorkers,
    data_workers,
)
from strategies.cluster.environments.detection import (
    DEFAULT_START_SECONDS,
    EXIT_REASON_VARIABLE,
    NOTICE_SECONDS_VARIABLE,
    START_SECONDS_VARIABLE,
    cluster_from_environment,
    cluster_from_tf_config,
    notice_seconds_from_environment,
    own_data_workers,
    own_job_id,
    own_job_starts,
    own_tpu_environment,
    start_seconds_from_environment,
    take_exit_reason_path,
)
from strategies.cluster.environments.jobs import (
    JOB_VARIABLE,
    RESTART_VARIABLE,
    JobStart,
    job_starts,
)
from strategies.cluster.environments.kubernetes import cluster_from_kubernetes
from strategies.cluster.environments.mpi import cluster_from_mpi
from strategies.cluster.environments.one_process import environment_of_one_process
from strategies.cluster.environments.slurm import cluster_from_slurm
from strategies.cluster.environments.tpu_vm import TpuEnvironment, tpu_environment

__all__ = [
    "DATA_WORKERS_VARIABLE",
    "DATA_WORKER_VARIABLE",
    "DEFAULT_START_SECONDS",
    "EXIT_REASON_VARIABLE",
    "JOB_VARIABLE",
    "NOTICE_SECONDS_VARIABLE",
    "RESTART_VARIABLE",
    "START_SECONDS_VARIABLE",
    "DataWorkers",
    "JobStart",
    "TpuEnvironment",
    "cluster_from_environment",
    "cluster_from_kubernetes",
    "cluster_from_mpi",
    "cluster_from_slurm",
    "cluster_from_tf_config",
    "data_workers",
    "environment_of_one_process",
    "job_starts",
    "notice_seconds_from_environment",
    "own_data_workers",
    "own_job_id",
    "own_job_starts",
    "own_tpu_environment",
    "start_seconds_from_environment",
    "take_exit_reason_path",
    "tpu_environment",
]
