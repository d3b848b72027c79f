"""One start of a job: its workers on this host, from the ports they get to the last one's end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from strategies.cluster import Cluster
from strategies.cluster_environments import DEFAULT_START_SECONDS, START_SECONDS_VARIABLE
from tfscale.launch.events import Events
from tfscale.launch.hosts import Hosts
from tfscale.launch.names import await_names
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.outcome import Outcome
from tfscale.launch.output import OutputRelay, SharedOutput
from tfscale.launch.ports import ReservedPort, reserve_port
from tfscale.launch.supervision import SupervisedWorker, Supervision
from tfscale.launch.worker_process import WorkerProcess

# How often the job was started again, for the workers: 0, 1, 2, ...
RESTART_VARIABLE = "TFSCALE_RESTART"


@dataclass(frozen=True)
class Job:
    """What stays the same from one start of a job to the next.

    The public arguments are those of `launch_local_workers`.
    """

    command: Sequence[str]
    num_workers: int
    hosts: Hosts | None
    grace_seconds: float
    start_seconds: float | None
    log_dir: Path | None
    output: SharedOutput
    events: Events
    guard: OrphanGuard


def run_attempt(job: Job, restart: int, ports_of_job: contextlib.ExitStack) -> Outcome:
    """Starts the workers and returns when all have ended.

    Args:
        job: The job.
        restart: How often it was started before.
        ports_of_job: Keeps this start's ports for the job and gives back those of the last one.

    Raises:
        OSError: If a host's name has no address in time, or the system refuses a port, a file, a
            pipe or a process.
    """
    if job.hosts is not None:
        seconds = DEFAULT_START_SECONDS if job.start_seconds is None else job.start_seconds
        stop_signal = await_names(job.hosts.names, seconds, job.events)
        if stop_signal is not None:
            return Outcome(stop_signal=stop_signal)
    ports = _reserved_ports(job, restart, ports_of_job)
    if job.hosts is None:
        first, addresses = 0, tuple(port.address for port in ports)
    else:
        first = job.hosts.first_worker(job.num_workers)
        addresses = job.hosts.worker_addresses(job.num_workers)
    workers = []
    for index, port in enumerate(ports, start=first):
        port.release()
        cluster = Cluster({"worker": addresses}, "worker", index)
        workers.append(_started_worker(job, cluster, restart))
    return Supervision(workers, job.events, job.grace_seconds, job.guard).run()


def _reserved_ports(
    job: Job, restart: int, ports_of_job: contextlib.ExitStack
) -> list[ReservedPort]:
    with contextlib.ExitStack() as stack:
        if job.hosts is None:
            # While the last start's are still held, so that none of them comes again.
            ports = [stack.enter_context(reserve_port()) for _ in range(job.num_workers)]
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
                        f"port {number} of this host, {own!r} of `hosts`, cannot be had "
                        f"({error.strerror}). End what holds it, or choose another port."
                    ) from error
                ports.append(stack.enter_context(port))
        ports_of_job.push(stack.pop_all())
    return ports


def _started_worker(job: Job, cluster: Cluster, restart: int) -> SupervisedWorker:
    index = cluster.task_index
    with contextlib.ExitStack() as stack:
        log: BinaryIO | None = None
        if job.log_dir is not None:
            job.log_dir.mkdir(parents=True, exist_ok=True)
            # Appended: a scheduler that starts the same command again destroys no log.
            path = job.log_dir / f"worker-{index}.attempt-{restart}.log"
            log = stack.enter_context(path.open("ab"))
        read_end, write_end = os.pipe()
        try:
            environment = _environment(job, cluster, restart)
            process = WorkerProcess(index, job.command, environment, write_end, job.events)
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        job.guard.add(process.group)
        stack.pop_all()  # The relay closes the log.
        relay = OutputRelay(index, read_end, job.output, job.events, log)
    return SupervisedWorker(process, relay)


def _environment(job: Job, cluster: Cluster, restart: int) -> Mapping[str, str]:
    environment = {
        **os.environ,
        "TF_CONFIG": cluster.to_tf_config(),
        RESTART_VARIABLE: str(restart),
        # A worker that is killed would otherwise take the last kilobytes it printed with it.
        "PYTHONUNBUFFERED": "1",
    }
    if job.start_seconds is not None:
        environment[START_SECONDS_VARIABLE] = str(job.start_seconds)
    return environment
