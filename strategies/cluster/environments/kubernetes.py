"""The cluster of a Kubernetes Indexed Job, also as the one replicated job of a JobSet.

Kubernetes gives a pod of an Indexed Job its index (JOB_COMPLETION_INDEX) and a host name that a
headless Service resolves, but not the number of pods or the form of the name. The manifest states
both, in `env` of the container. For a Job and a headless Service both named `digits`
(`subdomain: digits`), with `completions: 4` and `parallelism: 4`:

    - {name: TFSCALE_NUM_WORKERS, value: "4"}
    - {name: TFSCALE_WORKER_ADDRESS, value: "digits-{index}.digits:2222"}

For a JobSet `digits` whose replicated job `worker` has `replicas: 1` (JobSet makes the Service and
names pods jobset-replicatedjob-jobindex-podindex):

    - {name: TFSCALE_WORKER_ADDRESS, value: "digits-worker-0-{index}.digits:2222"}

Set `publishNotReadyAddresses`; otherwise names resolve only when every pod is ready.
"""

from __future__ import annotations

from collections.abc import Mapping

from strategies.cluster.cluster import Cluster
from strategies.cluster.environments.variables import integer_variable

_INDEX = "JOB_COMPLETION_INDEX"
_NUM_WORKERS = "TFSCALE_NUM_WORKERS"
_ADDRESS = "TFSCALE_WORKER_ADDRESS"


def cluster_from_kubernetes(environ: Mapping[str, str]) -> Cluster | None:
    """Returns the cluster that a manifest declares with TFSCALE_ variables.

    Every pod is a worker; a cluster with parameter servers needs a TF_CONFIG in the manifest.

    Args:
        environ: The environment of one pod.

    Returns:
        The cluster, or None if neither TFSCALE_NUM_WORKERS nor TFSCALE_WORKER_ADDRESS is set: an
        Indexed Job without them is a queue of separate runs.

    Raises:
        ValueError: If one of the two is missing, the Job is not Indexed, or the index is not below
            TFSCALE_NUM_WORKERS.

    Example:
        >>> cluster_from_kubernetes({
        ...     "JOB_COMPLETION_INDEX": "1",
        ...     "TFSCALE_NUM_WORKERS": "2",
        ...     "TFSCALE_WORKER_ADDRESS": "digits-{index}.digits:2222",
        ... }).address
        'digits-1.digits:2222'
    """
    if _NUM_WORKERS not in environ and _ADDRESS not in environ:
        return None
    num_workers = integer_variable(
        environ, _NUM_WORKERS, minimum=1, cure="Set it to the `completions` of the Job."
    )
    pattern = environ.get(_ADDRESS, "")
    if "{index}" not in pattern:
        raise ValueError(
            f"`{_ADDRESS}` must contain {{index}}. Received: {_ADDRESS}={pattern!r}. "
            'Write for instance "digits-{index}.digits:2222".'
        )
    index = integer_variable(
        environ, _INDEX, minimum=0, cure="Give the Job `completionMode: Indexed`."
    )
    workers = tuple(pattern.replace("{index}", str(worker)) for worker in range(num_workers))
    return Cluster({"worker": workers}, "worker", index, source="Kubernetes Indexed Job")
