"""One start of a job: runs its workers on this host, from reserving ports to the last exit."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strategies import Cluster
from strategies.extension import (
    DATA_WORKER_VARIABLE,
    DATA_WORKERS_VARIABLE,
    DEFAULT_START_SECONDS,
    JOB_VARIABLE,
    LARGEST_COUNT,
    START_SECONDS_VARIABLE,
)
from tfscale.launch.attempts import TimeLimit
from tfscale.launch.chief_supervision import ChiefSupervision
from tfscale.launch.data_worker_supervision import DataWorkerSupervision
from tfscale.launch.events import Events
from tfscale.launch.hosts import Hosts, await_names
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.outcome import Outcome
from tfscale.launch.output import SharedOutput
from tfscale.launch.ports import ReservedPort, reserve_port
from tfscale.launch.process_management import ProcessManagementServer
from tfscale.launch.restarts import RestartPolicy
from tfscale.launch.shares import Shares
from tfscale.launch.supervision import SupervisedWorker, Supervision, task_name
from tfscale.launch.task_files import exit_reason_file, log_file
from tfscale.launch.task_start import started_task, task_variables


@dataclass(frozen=True)
class Job:
    """The settings that all starts of a job share.

    The public arguments are those of `launch_local_workers`. `name` identifies the job to its
    workers over restarts.
    """

    name: str

    command: Sequence[str]
    num_workers: int
    num_ps: int
    num_data_workers: int
    policy: RestartPolicy
    hosts: Hosts | None
    grace_seconds: float
    start_seconds: float | None
    log_dir: Path | None
    exit_reason_dir: Path
    shares: Shares
    environment: Mapping[str, str]
    output: SharedOutput
    events: Events
    limit: TimeLimit
    guard: OrphanGuard

    @property
    def num_tasks(self) -> int:
        """Processes that train: the workers, and with `num_ps` also a chief and the servers."""
        return self.num_workers + (self.num_ps and 1 + self.num_ps)

    @property
    def num_ports(self) -> int:
        """Ports on this host. A data worker has two: one to serve, one for its own cluster."""
        return self.num_tasks + 2 * self.num_data_workers


def run_attempt(job: Job, restart: int, ports_of_job: contextlib.ExitStack) -> Outcome:
    """Starts the workers and waits until all have ended.

    Args:
        job: The job.
        restart: Number of earlier starts.
        ports_of_job: Holds this start's ports. The ports of the previous start are released.

    Raises:
        OSError: If a host's name cannot be resolved in time, or the system provides no port, file,
            pipe or process.
    """
    if job.hosts is not None:
        seconds = DEFAULT_START_SECONDS if job.start_seconds is None else job.start_seconds
        stop_signal = await_names(job.hosts.names, seconds, job.events)
        if stop_signal is not None:
            return Outcome(stop_signal=stop_signal)
    ports = _reserved_ports(job, restart, ports_of_job)
    for port in ports:
        port.release()
    if job.num_ps:
        return _run_with_chief(job, restart, [port.address for port in ports])
    if job.hosts is None:
        first, addresses = 0, tuple(port.address for port in ports)
    else:
        first = job.hosts.first_worker(job.num_workers)
        addresses = job.hosts.worker_addresses(job.num_workers)
    data_ports = addresses[job.num_workers :] if job.num_data_workers else ()
    addresses = addresses[: len(addresses) - len(data_ports)]
    count = job.num_workers
    clusters = [
        Cluster({"worker": addresses}, "worker", index) for index in range(first, first + count)
    ]
    with contextlib.ExitStack() as stack:
        mpi = None
        if job.hosts is None and len(clusters) > 1:
            name = f"tfscale_{secrets.token_hex(8)}"  # no other start on this host has it
            mpi = stack.enter_context(ProcessManagementServer(name, len(clusters)))
        served = _served_by(data_ports)
        workers = [
            started_worker(job, cluster, cluster.task_index, restart, mpi, added=served)
            for cluster in clusters
        ]
        if job.num_data_workers:
            return _run_with_data_workers(job, restart, workers, data_ports)
        return Supervision(workers, job.events, job.grace_seconds, job.guard).run()


def _run_with_data_workers(
    job: Job, restart: int, workers: list[SupervisedWorker], ports: tuple[str, ...]
) -> Outcome:
    processes = itertools.count(len(workers))

    def start(index: int) -> SupervisedWorker:
        # A cluster of its own: it runs the same program, which may build a strategy of workers.
        cluster = Cluster({"worker": (ports[job.num_data_workers + index],)}, "worker", 0)
        added = {
            **_served_by(ports),
            DATA_WORKER_VARIABLE: str(index),
            "CUDA_VISIBLE_DEVICES": "",  # the GPUs are for those that train
        }
        task = f"data worker {index}"
        return started_worker(job, cluster, next(processes), restart, task=task, added=added)

    data_workers = [start(index) for index in range(job.num_data_workers)]
    policy = dataclasses.replace(job.policy, max_restarts=LARGEST_COUNT)
    return DataWorkerSupervision(
        workers,
        data_workers,
        job.events,
        job.grace_seconds,
        job.guard,
        lambda ended: start(int(ended.task.rpartition(" ")[2])),
        policy,
    ).run()


def _served_by(ports: tuple[str, ...]) -> dict[str, str]:
    """Returns the variable for the data workers, which serve at the first half of their ports."""
    serving = ports[: len(ports) // 2]
    return {DATA_WORKERS_VARIABLE: ",".join(serving)} if serving else {}


def _run_with_chief(job: Job, restart: int, addresses: list[str]) -> Outcome:
    first_ps = 1 + job.num_workers
    jobs = {
        "chief": tuple(addresses[:1]),
        "worker": tuple(addresses[1:first_ps]),
        "ps": tuple(addresses[first_ps:]),
    }
    tasks = [(name, index) for name in jobs for index in range(len(jobs[name]))]
    processes = itertools.count()

    def start(cluster: Cluster) -> SupervisedWorker:
        return started_worker(job, cluster, next(processes), restart)

    workers = [start(Cluster(jobs, *task)) for task in tasks]
    return ChiefSupervision(
        workers,
        job.events,
        job.grace_seconds,
        job.guard,
        lambda ended: start(ended.cluster),
        job.policy,
    ).run()


def _reserved_ports(
    job: Job, restart: int, ports_of_job: contextlib.ExitStack
) -> list[ReservedPort]:
    with contextlib.ExitStack() as stack:
        if job.hosts is None:
            # The ports of the previous start are still reserved, so that none is reused.
            ports = [stack.enter_context(reserve_port()) for _ in range(job.num_ports)]
            ports_of_job.close()
        else:
            ports_of_job.close()
            ports = []
            for number in job.hosts.own_ports(job.num_workers):
                try:
                    port = ReservedPort(number, used_before=True)
                except OSError as error:
                    own = job.hosts.addresses[job.hosts.index]
                    raise OSError(
                        f"port {number} of this host, {own!r} in `hosts`, is not available "
                        f"({error.strerror}). End the process that uses it, or choose another port."
                    ) from error
                ports.append(stack.enter_context(port))
        ports_of_job.push(stack.pop_all())
    return ports


def started_worker(
    job: Job,
    cluster: Cluster,
    process_index: int,
    restart: int,
    mpi: ProcessManagementServer | None = None,
    *,
    task: str = "",
    added: Mapping[str, str] | None = None,
    first: int = 0,
) -> SupervisedWorker:
    """Starts one task of a job.

    Args:
        job: The job.
        cluster: The cluster, with the index of this task.
        process_index: A number that no other process of this start has.
        restart: Number of earlier starts.
        mpi: Where the MPI library of the task asks for its rank; None without MPI.
        task: Its name; by default that of the cluster.
        added: Additional variables.
        first: Index of the first worker of this host.

    Raises:
        OSError: If the system provides no file, pipe or process.
    """
    task = task or task_name(cluster)
    name, _, index = task.rpartition(" ") if " " in task else (task, "", "0")
    file_name = f"{name.replace(' ', '_')}-{index}"
    reason = exit_reason_file(job.exit_reason_dir, file_name, restart)
    first = job.hosts.first_worker(job.num_workers) if job.hosts else first
    environment = {
        **_environment(job, cluster, restart, reason),
        **(added or {}),
        **job.shares.environment(name, int(index) - first),
    }
    if mpi is not None:
        environment = mpi.environment(environment, cluster.task_index)
    log: Path | None = None
    if job.log_dir is not None:
        job.log_dir.mkdir(parents=True, exist_ok=True)
        log = log_file(job.log_dir, file_name, restart)
    worker = started_task(
        task,
        cluster,
        job.command,
        environment,
        process_index=process_index,
        exit_reason_file=reason,
        log=log,
        output=job.output,
        events=job.events,
    )
    job.guard.add(worker.process.group)
    return worker


def _environment(job: Job, cluster: Cluster, restart: int, exit_reason: Path) -> Mapping[str, str]:
    environment = {
        **os.environ,
        **job.environment,
        JOB_VARIABLE: job.name,
        **task_variables(cluster, restart, exit_reason),
    }
    if job.start_seconds is not None:
        environment[START_SECONDS_VARIABLE] = str(job.start_seconds)
    return environment
