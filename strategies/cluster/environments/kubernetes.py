"""The cluster of Kubernetes pods: an Indexed Job, or the replicated jobs of a JobSet as roles.

Kubernetes gives a pod of an Indexed Job its index (JOB_COMPLETION_INDEX) and a host name that a
headless Service resolves, but not the number of pods or the form of the name. The manifest states
both, in `env` of the container. For a Job and a headless Service both named `digits`
(`subdomain: digits`), with `completions: 4` and `parallelism: 4`:

    - {name: TFSCALE_NUM_WORKERS, value: "4"}
    - {name: TFSCALE_WORKER_ADDRESS, value: "digits-{index}.digits:2222"}

For a JobSet `digits` whose replicated job `worker` has `replicas: 1` (JobSet makes the Service and
names pods jobset-replicatedjob-jobindex-podindex):

    - {name: TFSCALE_WORKER_ADDRESS, value: "digits-worker-0-{index}.digits:2222"}

With parameter servers each role is a replicated job. All pods get the same addresses, and the pods
of each role their own task type: chief, worker (the default) or ps.

    - {name: TFSCALE_TASK_TYPE, value: ps}
    - {name: TFSCALE_CHIEF_ADDRESS, value: "digits-chief-0-0.digits:2222"}
    - {name: TFSCALE_NUM_PS, value: "2"}
    - {name: TFSCALE_PS_ADDRESS, value: "digits-ps-0-{index}.digits:2222"}

Set `publishNotReadyAddresses`; otherwise names resolve only when every pod is ready. `tfscale
launch --engine=kubernetes` writes such manifests.
"""

from __future__ import annotations

from collections.abc import Mapping

from strategies.cluster.cluster import Cluster
from strategies.cluster.environments.variables import integer_variable

_INDEX = "JOB_COMPLETION_INDEX"
_NUM_WORKERS = "TFSCALE_NUM_WORKERS"
_WORKER_ADDRESS = "TFSCALE_WORKER_ADDRESS"
_CHIEF_ADDRESS = "TFSCALE_CHIEF_ADDRESS"
_NUM_PS = "TFSCALE_NUM_PS"
_PS_ADDRESS = "TFSCALE_PS_ADDRESS"
_TASK_TYPE = "TFSCALE_TASK_TYPE"


def cluster_from_kubernetes(environ: Mapping[str, str]) -> Cluster | None:
    """Returns the cluster that a manifest declares with TFSCALE_ variables.

    Args:
        environ: The environment of one pod.

    Returns:
        The cluster, or None if neither TFSCALE_NUM_WORKERS nor TFSCALE_WORKER_ADDRESS is set: an
        Indexed Job without them is a queue of separate runs.

    Raises:
        ValueError: If one of the two is missing, one of TFSCALE_NUM_PS and TFSCALE_PS_ADDRESS is
            missing, the Job is not Indexed, the index is not below the number of tasks of this
            type, or the task type is none of this cluster.

    Example:
        >>> cluster_from_kubernetes({
        ...     "JOB_COMPLETION_INDEX": "1",
        ...     "TFSCALE_NUM_WORKERS": "2",
        ...     "TFSCALE_WORKER_ADDRESS": "digits-{index}.digits:2222",
        ... }).address
        'digits-1.digits:2222'
    """
    if _NUM_WORKERS not in environ and _WORKER_ADDRESS not in environ:
        return None
    jobs: dict[str, tuple[str, ...]] = {}
    if environ.get(_CHIEF_ADDRESS):
        jobs["chief"] = (environ[_CHIEF_ADDRESS],)
    jobs["worker"] = _addresses(environ, _NUM_WORKERS, _WORKER_ADDRESS, "digits")
    if _NUM_PS in environ or _PS_ADDRESS in environ:
        jobs["ps"] = _addresses(environ, _NUM_PS, _PS_ADDRESS, "digits-ps-0")
    task_type = environ.get(_TASK_TYPE) or "worker"
    if task_type not in jobs:
        raise ValueError(
            f"`{_TASK_TYPE}` must be a job of this cluster: {', '.join(jobs)}. "
            f"Received: {_TASK_TYPE}={task_type!r}. Set it to the role of the pod."
        )
    index = integer_variable(
        environ, _INDEX, minimum=0, cure="Give the Job `completionMode: Indexed`."
    )
    return Cluster(jobs, task_type, index, source="Kubernetes Indexed Job")


def _addresses(
    environ: Mapping[str, str], number: str, address: str, example: str
) -> tuple[str, ...]:
    """Returns the addresses of all tasks of a job, in the order of their index."""
    count = integer_variable(
        environ, number, minimum=1, cure="Set it to the `completions` of the Job."
    )
    pattern = environ.get(address, "")
    if "{index}" not in pattern:
        raise ValueError(
            f"`{address}` must contain {{index}}. Received: {address}={pattern!r}. "
            f'Write for instance "{example}-{{index}}.digits:2222".'
        )
    return tuple(pattern.replace("{index}", str(index)) for index in range(count))
