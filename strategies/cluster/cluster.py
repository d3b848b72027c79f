"""A training cluster: its jobs, the addresses of their tasks, and which task this process is.

    cluster = Cluster({"worker": ("10.0.0.1:2222", "10.0.0.2:2222")}, "worker", 1)
    cluster.num_workers, cluster.worker_index, cluster.is_chief      # 2, 1, False
    os.environ["TF_CONFIG"] = cluster.to_tf_config()

Needs no TensorFlow, so a launcher can import it. `strategies.cluster.environments` reads a cluster
from the environment of a process under Slurm, MPI or Kubernetes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

JOB_NAMES = ("chief", "worker", "ps", "evaluator")

# A name, an IPv4 address, or an IPv6 address in brackets; underscores are not valid in
# DNS, but Docker Compose makes such names.
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[1-9][0-9]{0,4})")
_LARGEST_PORT = 65535


@dataclass(frozen=True)
class Cluster:
    """The jobs of one training run, and the task of this process.

    Chief and workers train: `fit` runs on each of them. Parameter servers store variables; with
    parameter servers only the chief runs `fit`, and the workers serve it. An evaluator reads
    checkpoints and takes part in no step. As in TensorFlow, its task need not be in `jobs`: then it
    has a type and an index but no address. TensorFlow 2.21 accepts one evaluator only; this class
    accepts several.

    Attributes:
        jobs: Job name ("chief", "worker", "ps" or "evaluator") to the "host:port" of its tasks, in
            the order of their index. An IPv6 host is in brackets. Stored as a read-only copy.
        task_type: The job of this process.
        task_index: The index of this process in its job, from 0.
        source: Where the cluster was read from, for log lines: "TF_CONFIG", "Slurm step 12.0".
            Empty if the caller built it. Not compared.

    Raises:
        ValueError: If the cluster is impossible: an unknown or empty job, two chiefs, an address
            that is malformed or used twice, or an index outside its job.

    Example:
        >>> cluster = Cluster({"worker": ("a:2222", "b:2222")}, "worker", 0)
        >>> cluster.is_chief, cluster.address
        (True, 'a:2222')
    """

    jobs: Mapping[str, tuple[str, ...]] = field(hash=False)
    task_type: str
    task_index: int
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            raise ValueError(
                f"`source` must be a string. Received: source={self.source!r}. Leave it out."
            )
        if not isinstance(self.jobs, Mapping) or not self.jobs:
            raise ValueError(
                "`jobs` must be a mapping of at least one job name to its addresses. "
                f'{self._received("jobs", self.jobs)} Write {{"worker": ["host:port"]}}.'
            )
        for job, addresses in self.jobs.items():
            self._check_job(job, addresses)
        copied = {job: tuple(addresses) for job, addresses in self.jobs.items()}
        object.__setattr__(self, "jobs", MappingProxyType(copied))
        self._check_addresses_differ()
        self._check_task()

    @classmethod
    def from_tf_config(cls, text: str) -> Cluster:
        """Reads the JSON that TensorFlow expects in the variable TF_CONFIG.

        Keys other than `cluster` and `task` are ignored. An empty text is an error here; the caller
        decides whether it means "no cluster".

        Args:
            text: `{"cluster": {job: ["host:port", ...]}, "task": {"type": job, "index": i}}`.

        Returns:
            The cluster, with "TF_CONFIG" as its source.

        Raises:
            ValueError: If `text` is not such JSON, or describes an impossible cluster.
        """
        try:
            config = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"`TF_CONFIG` must be JSON ({error}). Received: TF_CONFIG={text!r}. "
                "Check its quotes and commas, or unset it to train in one process."
            ) from error
        jobs = _entry(config, "TF_CONFIG", "cluster")
        task = _entry(config, "TF_CONFIG", "task")
        return cls(
            jobs=jobs,
            task_type=_entry(task, "TF_CONFIG task", "type"),
            task_index=_entry(task, "TF_CONFIG task", "index"),
            source="TF_CONFIG",
        )

    def to_tf_config(self) -> str:
        """Returns the TF_CONFIG of this task; `from_tf_config` returns an equal cluster."""
        return json.dumps(
            {
                "cluster": {job: list(addresses) for job, addresses in self.jobs.items()},
                "task": {"type": self.task_type, "index": self.task_index},
            }
        )

    @property
    def num_workers(self) -> int:
        """Tasks that train: the chief, if there is one, and the workers."""
        return len(self.jobs.get("chief", ())) + len(self.jobs.get("worker", ()))

    @property
    def num_parameter_servers(self) -> int:
        """Tasks that store variables."""
        return len(self.jobs.get("ps", ()))

    @property
    def is_chief(self) -> bool:
        """Whether this task writes the files of the run: the chief, or worker 0 without a chief.

        An evaluator is not a chief here; TensorFlow calls it the chief of a separate cluster.
        """
        leader = "chief" if "chief" in self.jobs else "worker"
        return self.task_type == leader and self.task_index == 0

    @property
    def worker_index(self) -> int:
        """Index of this task among those that train, the chief first: 0 to `num_workers` - 1.

        Raises:
            ValueError: If this task does not train.
        """
        if self.task_type == "chief":
            return 0
        if self.task_type == "worker":
            return len(self.jobs.get("chief", ())) + self.task_index
        raise ValueError(
            f'`task_type` must be "chief" or "worker" to have a worker index. '
            f"{self._received('task_type', self.task_type)} Only these tasks read training data."
        )

    @property
    def address(self) -> str:
        """The "host:port" this task listens on.

        Raises:
            ValueError: If this is an evaluator that `jobs` does not list.
        """
        if self.task_type not in self.jobs:
            raise ValueError(
                "`jobs` must contain the evaluator, or it has no address. "
                f'{self._received("jobs", dict(self.jobs))} Add "evaluator" to the jobs.'
            )
        return self.jobs[self.task_type][self.task_index]

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only mapping cannot be pickled, and launchers send clusters to other processes.
        return (type(self), (dict(self.jobs), self.task_type, self.task_index, self.source))

    def _received(self, name: str, value: object) -> str:
        found = f" (from {self.source})" if self.source else ""
        return f"Received: {name}={value!r}{found}."

    def _check_job(self, job: str, addresses: object) -> None:
        if job not in JOB_NAMES:
            raise ValueError(
                f"`jobs` must use only the names {', '.join(JOB_NAMES)}. "
                f"{self._received('job', job)} Rename the job."
            )
        if not isinstance(addresses, list | tuple) or not addresses:
            raise ValueError(
                f"`jobs[{job!r}]` must be a list of at least one address. "
                f'{self._received(f"jobs[{job!r}]", addresses)} Write ["host:port"], or leave the '
                "job out."
            )
        if job == "chief" and len(addresses) > 1:
            raise ValueError(
                f"`jobs['chief']` must have one task. {self._received('chief', addresses)} "
                "Move the others to the job worker."
            )
        for address in addresses:
            match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
            if match is None or int(match["port"]) > _LARGEST_PORT:
                raise ValueError(
                    f'`jobs[{job!r}]` must contain addresses "host:port" with a port from 1 to '
                    f"{_LARGEST_PORT}. {self._received('address', address)} Write for instance "
                    '"10.0.0.1:2222" or "[fd00::1]:2222", without "grpc://".'
                )

    def _check_addresses_differ(self) -> None:
        seen: dict[str, str] = {}
        for job, addresses in self.jobs.items():
            for index, address in enumerate(addresses):
                task = f"{job} {index}"
                # Host names do not depend on case.
                earlier = seen.setdefault(address.lower(), task)
                if earlier != task:
                    raise ValueError(
                        f"`jobs` must give every task a different address; {earlier} and {task} "
                        f"share one. {self._received('address', address)} Give one of them "
                        "another port."
                    )

    def _check_task(self) -> None:
        accepted = [job for job in JOB_NAMES if job in self.jobs or job == "evaluator"]
        if not isinstance(self.task_type, str) or self.task_type not in accepted:
            raise ValueError(
                f"`task_type` must be a job of this cluster: {', '.join(accepted)}. "
                f"{self._received('task_type', self.task_type)} Use one of them, or add the job."
            )
        # bool is an int to Python, but `"index": true` is a mistake.
        if isinstance(self.task_index, bool) or not isinstance(self.task_index, int):
            raise ValueError(
                "`task_index` must be an integer. "
                f"{self._received('task_index', self.task_index)} Write it without quotes."
            )
        tasks = len(self.jobs.get(self.task_type, ()))
        if self.task_index < 0 or (tasks and self.task_index >= tasks):
            rule = f"from 0 to {tasks - 1}" if tasks else "0 or more"
            raise ValueError(
                f"`task_index` must be {rule} for the job {self.task_type}. "
                f"{self._received('task_index', self.task_index)} Give every process the index of "
                "its address, or add the address of this process."
            )


def host_and_port(address: str) -> tuple[str, int]:
    """Splits "host:port"; an IPv6 host loses its brackets.

    Example:
        >>> host_and_port("[fd00::1]:2222")
        ('fd00::1', 2222)
    """
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def require_cluster(value: Any) -> Cluster:
    """Returns the cluster that was passed as `cluster`.

    Raises:
        ValueError: If `value` is not a cluster.
    """
    if not isinstance(value, Cluster):
        raise ValueError(
            f"`cluster` must be a strategies.Cluster, or None. Received: cluster={value!r}. Omit "
            "it to read the cluster from the environment."
        )
    return value


def _entry(mapping: object, name: str, key: str) -> Any:
    """Returns `mapping[key]`; `mapping` comes from outside and may be of any type."""
    if not isinstance(mapping, Mapping) or key not in mapping:
        raise ValueError(
            f"`{name}` must be a JSON object with the key {key!r}. Received: {name}={mapping!r}. "
            'Write {"cluster": {"worker": ["host:port"]}, "task": {"type": "worker", "index": 0}}.'
        )
    return mapping[key]
