"""The job of this process, and which start of the job this is.

A scheduler that restarts a job keeps its number and counts the starts. So a process can tell that
another one, on any host, was an earlier start of the same job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strategies.cluster.environments.variables import integer_variable

JOB_VARIABLE = "TFSCALE_JOB_ID"
"""The name of the job. `tfscale launch` sets it; a manifest or a script may set it too."""
RESTART_VARIABLE = "TFSCALE_RESTART"
"""How often the job was restarted: 0, 1, 2, ..."""


@dataclass(frozen=True)
class JobStart:
    """One start of a job.

    Attributes:
        scheduler: What named the job, such as "Slurm".
        job: The name, the same for every start.
        start: The number of the start; later starts have greater numbers.
    """

    scheduler: str
    job: str
    start: int

    def __str__(self) -> str:
        return f"{self.scheduler} job {self.job}, start {self.start}"


def job_starts(environ: Mapping[str, str]) -> tuple[JobStart, ...]:
    """Returns the jobs of a process, as `environ` describes them; often none.

    Recognised are `tfscale launch` (TFSCALE_JOB_ID with TFSCALE_RESTART), Slurm (SLURM_JOB_ID with
    SLURM_RESTART_COUNT, which counts requeues) and AWS Batch. A Kubernetes pod has no such
    variables. A manifest can set them, for instance by the downward API from the labels and
    annotations of a JobSet.

    Args:
        environ: The environment.

    Raises:
        ValueError: If a count is not an integer >= 0.

    Example:
        >>> job_starts({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"})
        (JobStart(scheduler='Slurm', job='7', start=2),)
    """
    found = []
    for scheduler, job, count, cluster in (
        ("tfscale launch", JOB_VARIABLE, RESTART_VARIABLE, ""),
        ("Slurm", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_CLUSTER_NAME"),
        ("AWS Batch", "AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT", ""),
    ):
        if not environ.get(job):
            continue
        cluster_name = environ.get(cluster, "")
        name = f"{environ[job]} of {cluster_name}" if cluster_name else environ[job]
        start = 0
        if environ.get(count):
            cure = f"Unset it, or give the number of restarts of {environ[job]!r}."
            start = integer_variable(environ, count, minimum=0, cure=cure)
        found.append(JobStart(scheduler, name, start))
    return tuple(found)
