"""The roles of a job on Kubernetes: its kinds of pods, how many, and where they are reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strategies.extension import DATA_WORKER_VARIABLE, DATA_WORKERS_VARIABLE
from tfscale.launch.engines.job_request import JobRequest

INDEX_VARIABLE = "JOB_COMPLETION_INDEX"


@dataclass(frozen=True)
class Role:
    """A role, which is one replicated job of a JobSet.

    Attributes:
        name: Name of the replicated job: "chief", "worker", "ps" or "data".
        count: Pods.
        trains: Whether its end is the end of the job: the chief, or workers without a chief.
    """

    name: str
    count: int
    trains: bool = False

    @property
    def task(self) -> str:
        """The beginning of its tasks' names in `JobRequest.tasks`."""
        return "data_worker" if self.name == "data" else self.name

    def task_name(self, index: int | str) -> str:
        """Returns the name of a task, as in `JobRequest.tasks`."""
        return self.task if self.name == "chief" else f"{self.task}-{index}"


def roles_of(request: JobRequest) -> tuple[Role, ...]:
    """Returns the roles of a job in the order in which they start.

    A role starts after those that it needs first: servers before workers, workers before the chief.

    Example:
        >>> [role.name for role in roles_of(JobRequest(("true",), "a", num_workers=2, num_ps=1))]
        ['ps', 'worker', 'chief']
    """
    has_chief = bool(request.num_ps)
    roles = (
        Role("data", request.num_data_workers),
        Role("ps", request.num_ps),
        Role("worker", request.num_workers, trains=not has_chief),
        Role("chief", int(has_chief), trains=True),
    )
    return tuple(role for role in roles if role.count)


def cluster_variables(
    role: Role, roles: tuple[Role, ...], hosts: Mapping[str, str], port: int
) -> dict[str, str]:
    """Returns the variables from which a pod reads its cluster.

    `strategies.cluster.environments.kubernetes` describes those of workers, chief and servers.

    Args:
        role: The role of the pod.
        roles: All roles of the job.
        hosts: By role the name of its pods, with "{index}".
        port: The port on which TensorFlow listens. Data workers serve on the next one.
    """
    counts = {each.name: each.count for each in roles}
    variables = {}
    if "data" in counts:
        pods = [hosts["data"].replace("{index}", str(i)) for i in range(counts["data"])]
        variables[DATA_WORKERS_VARIABLE] = ",".join(f"{pod}:{port + 1}" for pod in pods)
    if role.name == "data":
        # A cluster of its own: it runs the same program, which may build a strategy of workers.
        return variables | {
            DATA_WORKER_VARIABLE: f"$({INDEX_VARIABLE})",
            "TF_CONFIG": f'{{"cluster": {{"worker": ["localhost:{port}"]}}, '
            '"task": {"type": "worker", "index": 0}}',
            "CUDA_VISIBLE_DEVICES": "",
        }
    if "chief" in counts:
        variables["TFSCALE_TASK_TYPE"] = role.name
        variables["TFSCALE_CHIEF_ADDRESS"] = f"{hosts['chief'].replace('{index}', '0')}:{port}"
    variables["TFSCALE_NUM_WORKERS"] = str(counts["worker"])
    variables["TFSCALE_WORKER_ADDRESS"] = f"{hosts['worker']}:{port}"
    if "ps" in counts:
        variables["TFSCALE_NUM_PS"] = str(counts["ps"])
        variables["TFSCALE_PS_ADDRESS"] = f"{hosts['ps']}:{port}"
    return variables
