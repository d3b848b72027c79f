"""Program: a task of the Slurm step. Runs the command as this task, and records how it ended.

    srun ... python -m tfscale.launch.engines.slurm.worker_task --log_dir=DIR --restart=0 -- COMMAND

The task gets its TF_CONFIG from the step, a file for its output and one for its exit reason. With
parameter servers, task 0 is the chief, the workers follow, then the servers. How the command ended
is written to <log_dir>/<task>.attempt-<restart>.exit.json.

`srun --kill-on-bad-exit` ends the others if this program fails. A preempted worker (status 42) has
not failed, so this program then ends with 0. The step ends with the chief, also if that succeeds.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from strategies import Cluster
from strategies.extension import cluster_from_environment
from tfscale.files.output_files import open_log, write_whole
from tfscale.launch.outcome import PREEMPTED_STATUS
from tfscale.launch.ports import reserve_port
from tfscale.launch.task_files import attempt_name, exit_reason_file, log_file
from tfscale.launch.task_start import task_variables

_END_OF_STEP = 1
"""Ends the step; the supervisor reads how the chief ended in its file."""


@dataclass(frozen=True)
class TaskEnd:
    """How a task ended.

    Attributes:
        returncode: As in `subprocess`.
        started: When it started, in seconds since 1970 by the clock of its host.
        ended: When it ended.
        host: Where it ran.
    """

    returncode: int
    started: float
    ended: float
    host: str

    def save(self, path: Path) -> None:
        """Writes it to a file."""
        write_whole(path, json.dumps(asdict(self)) + "\n")


def read_end(path: Path) -> TaskEnd | None:
    """Returns how a task ended, or None if its host or Slurm ended it before it could say so."""
    try:
        return TaskEnd(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def end_file(log_dir: Path, task: str, restart: int) -> Path:
    """Returns the file in which a task says how it ended."""
    return log_dir / f"{attempt_name(task, restart)}.exit.json"


def with_parameter_servers(cluster: Cluster, num_ps: int) -> Cluster:
    """Returns the cluster of a step in which task 0 is a chief and the last tasks are servers.

    Args:
        cluster: The cluster of the step, all workers.
        num_ps: Parameter servers. 0 returns the cluster itself.

    Example:
        >>> step = Cluster({"worker": ("a:1", "a:2", "b:1", "b:2")}, "worker", 3)
        >>> cluster = with_parameter_servers(step, 1)
        >>> dict(cluster.jobs), cluster.task_type, cluster.task_index
        ({'chief': ('a:1',), 'worker': ('a:2', 'b:1'), 'ps': ('b:2',)}, 'ps', 0)
    """
    if not num_ps:
        return cluster
    tasks = cluster.jobs["worker"]
    first_ps = len(tasks) - num_ps
    jobs = {"chief": tasks[:1], "worker": tasks[1:first_ps], "ps": tasks[first_ps:]}
    index = cluster.task_index
    places = [(job, i) for job, addresses in jobs.items() for i in range(len(addresses))]
    return Cluster(jobs, *places[index], source=cluster.source)


def own_cluster(environ: Mapping[str, str], num_ps: int) -> Cluster:
    """Returns the cluster of this task. A step of one task is a cluster of one worker.

    Raises:
        ValueError: If the variables of the step contradict each other.
        RuntimeError: If `scontrol` does not answer.
    """
    # A TF_CONFIG of the shell that submitted the job is not about this task.
    step = {name: value for name, value in environ.items() if name != "TF_CONFIG"}
    cluster = cluster_from_environment(step)
    if cluster is None:
        with reserve_port() as port:
            cluster = Cluster({"worker": (port.address,)}, "worker", 0, source="Slurm")
    return with_parameter_servers(cluster, num_ps)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command. Returns the exit status for srun."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--log_dir", type=Path, required=True)
    parser.add_argument("--restart", type=int, required=True)
    parser.add_argument("--num_ps", type=int, default=0)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)
    cluster = own_cluster(os.environ, given.num_ps)
    name = "chief" if cluster.task_type == "chief" else f"{cluster.task_type}-{cluster.task_index}"
    reason = exit_reason_file(given.log_dir, name, given.restart)
    environment = {
        **os.environ,
        **task_variables(cluster, given.restart, reason),
    }
    if cluster.task_type == "ps":
        environment["CUDA_VISIBLE_DEVICES"] = ""  # The GPUs are for those that train.
    started = time.time()
    returncode = _run(given.command, environment, log_file(given.log_dir, name, given.restart))
    end = TaskEnd(returncode, started, time.time(), os.environ.get("SLURMD_NODENAME", ""))
    end.save(end_file(given.log_dir, name, given.restart))
    if name == "chief":
        return _END_OF_STEP
    if returncode == PREEMPTED_STATUS:
        return 0
    return returncode if returncode >= 0 else 128 - returncode


def _run(command: list[str], environment: Mapping[str, str], log: Path) -> int:
    # Slurm sends a signal to every process of a task: the command has its own, and this program
    # stays to say how it ended. A handler, unlike SIG_IGN, is not inherited by the command.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    with open_log(log) as file:
        try:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        except OSError as error:
            # As in a shell: 127 the command or its interpreter was not found, 126 not executable.
            file.write(f"cannot run {command[0]!r}: {error.strerror}\n".encode())
            return 127 if isinstance(error, FileNotFoundError) else 126
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
