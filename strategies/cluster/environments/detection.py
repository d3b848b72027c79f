"""Detects the engine of this process; the only module that reads its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

from strategies.cluster.cluster import Cluster
from strategies.cluster.environments.data_workers import DataWorkers, data_workers
from strategies.cluster.environments.jobs import JOB_VARIABLE, JobStart, job_starts
from strategies.cluster.environments.kubernetes import cluster_from_kubernetes
from strategies.cluster.environments.mpi import cluster_from_mpi
from strategies.cluster.environments.scontrol import Scontrol, scontrol_answer
from strategies.cluster.environments.slurm import cluster_from_slurm
from strategies.cluster.environments.tpu_vm import TpuEnvironment, tpu_environment
from strategies.cluster.environments.variables import seconds_variable

START_SECONDS_VARIABLE = "TFSCALE_START_SECONDS"
"""The variable for the seconds that a cluster may take to start."""
DEFAULT_START_SECONDS = 300.0
"""Seconds that a cluster may take to start if the variable is not set."""
NOTICE_SECONDS_VARIABLE = "TFSCALE_NOTICE_SECONDS"
DEFAULT_NOTICE_SECONDS = 30.0
EXIT_REASON_VARIABLE = "TFSCALE_EXIT_REASON"
"""The variable for the file to which this process writes its exit reason."""


def start_seconds_from_environment(environ: Mapping[str, str] | None = None) -> float:
    """Returns how many seconds a cluster may take to start: TFSCALE_START_SECONDS, or 300.

    `tfscale launch --start_seconds` sets the variable.

    Args:
        environ: The environment. None means that of this process.

    Raises:
        ValueError: If the variable is not a positive, finite number.

    Example:
        >>> start_seconds_from_environment({"TFSCALE_START_SECONDS": "60"})
        60.0
    """
    found = os.environ if environ is None else environ
    return seconds_variable(found, START_SECONDS_VARIABLE, default=DEFAULT_START_SECONDS)


def notice_seconds_from_environment(environ: Mapping[str, str] | None = None) -> float:
    """Returns how many seconds a worker waits before it names the one it waits for.

    It is TFSCALE_NOTICE_SECONDS, or 30.

    Args:
        environ: The environment. None means that of this process.

    Raises:
        ValueError: If the variable is not a positive, finite number.

    Example:
        >>> notice_seconds_from_environment({"TFSCALE_NOTICE_SECONDS": "120"})
        120.0
    """
    found = os.environ if environ is None else environ
    return seconds_variable(found, NOTICE_SECONDS_VARIABLE, default=DEFAULT_NOTICE_SECONDS)


def take_exit_reason_path() -> str | None:
    """Returns the file for the exit reason of this process, TFSCALE_EXIT_REASON, or None.

    `tfscale launch` sets the variable. It is removed here, so that processes which this one starts
    do not inherit it.
    """
    return os.environ.pop(EXIT_REASON_VARIABLE, "") or None


def cluster_from_environment(
    environ: Mapping[str, str] | None = None, *, scontrol: Scontrol = scontrol_answer
) -> Cluster | None:
    """Returns the cluster of this process, or None if it is not part of one.

    The first of these counts: TF_CONFIG (it was written for this process), a Slurm step, MPI,
    Kubernetes. A Cloud TPU VM is not among them: a TPU pod is not a cluster of workers in the sense
    of TF_CONFIG; `tpu_environment` recognises it.

    Args:
        environ: The environment. None means that of this process.
        scontrol: Runs Slurm's `scontrol`; called in a Slurm step only. The default runs the
            command with a deadline.

    Returns:
        The cluster; its `source` names the engine.

    Raises:
        ValueError: If the variables of an engine contradict each other or give no host list.
        RuntimeError: If `scontrol` does not answer.

    Example:
        >>> cluster_from_environment({}) is None
        True
    """
    found = os.environ if environ is None else environ
    return (
        cluster_from_tf_config(found)
        or cluster_from_slurm(found, scontrol=scontrol)
        or cluster_from_mpi(found)
        or cluster_from_kubernetes(found)
    )


def own_job_starts() -> tuple[JobStart, ...]:
    """Returns the jobs that the environment of this process names; see `job_starts`."""
    return job_starts(os.environ)


def own_job_id() -> str | None:
    """Returns the id of the job that a launcher gave to this process, TFSCALE_JOB_ID, or None."""
    return os.environ.get(JOB_VARIABLE) or None


def own_data_workers() -> DataWorkers | None:
    """Returns the data workers that the environment of this process describes, or None."""
    return data_workers(os.environ)


def own_tpu_environment() -> TpuEnvironment | None:
    """Returns the TPU VM that the environment of this process describes, or None."""
    return tpu_environment(os.environ)


def cluster_from_tf_config(environ: Mapping[str, str]) -> Cluster | None:
    """Returns the cluster of TF_CONFIG, or None if it is unset, empty or `{}`.

    Args:
        environ: The environment.

    Raises:
        ValueError: If TF_CONFIG does not describe a cluster.
    """
    text = environ.get("TF_CONFIG", "").strip()
    # TensorFlow's resolver reads an unset TF_CONFIG as {}.
    if not text or "".join(text.split()) == "{}":
        return None
    return Cluster.from_tf_config(text)
