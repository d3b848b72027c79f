"""The environment of a process that trains by itself, started by a worker of a cluster.

A probe, a measurement or a comparison runs in a process of its own. Were it to inherit the worker's
environment, it would be a second worker with the same rank: it would wait for the others, ask the
process manager of MPI in the worker's name, read the batches of data workers, and write the
worker's exit reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_OF_A_WORKER = re.compile(
    "TF_CONFIG|JOB_COMPLETION_INDEX"
    # The job and its cluster; not what is true of any process, such as TFSCALE_NOTICE_SECONDS.
    "|TFSCALE_(JOB_ID|RESTART|EXIT_REASON|BASE_PORT|MPI_HOSTS|DATA_WORKERS?"
    "|NUM_WORKERS|WORKER_ADDRESS|CHIEF_ADDRESS|NUM_PS|PS_ADDRESS|TASK_TYPE)"
    # Process managers of MPI: Open MPI, and those of MPICH and Intel MPI.
    "|(OMPI|PMI|PMI2|PMIX|PRTE|HYDI)_.*|MPI_LOCAL(NRANKS|RANKID)"
    # A Slurm step. Those of its job stay, such as SLURM_CPUS_ON_NODE.
    "|SLURM_(STEP|STEPID|SRUN|PMI|PMIX|TASK|LAUNCH)(_.*)?|SLURM_(PROCID|LOCALID|NODEID|GTIDS)"
)


def environment_of_one_process(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns an environment without the variables of a cluster, of all kinds that are recognised.

    Args:
        environ: The environment of this process.

    Example:
        >>> environment_of_one_process({"PMI_RANK": "1", "TF_CONFIG": "{}", "HOME": "/root"})
        {'HOME': '/root'}
    """
    return {name: value for name, value in environ.items() if _OF_A_WORKER.fullmatch(name) is None}
