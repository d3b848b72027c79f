"""Program: one worker of a job, which `mpiexec` starts.

    mpiexec -n 2 python -m tfscale.launch.engines.mpi.worker --job_id=digits-7f -- python train.py

It gives the worker what every engine gives (TF_CONFIG, logs, a file for its error), and ends it as
every engine does: SIGTERM, then SIGKILL. It is asked to by SIGUSR1, which mpiexec passes on: at
SIGTERM Open MPI leaves its processes one second. The worker inherits what its MPI library needs.

Hydra, the launcher of MPICH, kills all processes when one closes its connection without
MPI_Finalize. This program keeps the connection open, and stays after a worker that has failed until
mpiexec is ended, so that the others have their grace period.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from strategies import Cluster
from strategies.extension import JOB_VARIABLE, cluster_from_mpi, mpi_environment, parse_hosts
from tfscale.launch.engines.end_report import EndReport, end_of
from tfscale.launch.engines.mpi.report import begin_line, end_line
from tfscale.launch.events import Events, SignalReceived, signals_as_events
from tfscale.launch.output import SharedOutput, say
from tfscale.launch.ports import ReservedPort
from tfscale.launch.shares import Shares
from tfscale.launch.supervision import SupervisedWorker
from tfscale.launch.task_files import exit_reason_file, log_file
from tfscale.launch.task_start import started_task, task_variables

_PARENT_SECONDS = 1.0
_CONNECTION = "PMI_FD"
_DESCRIPTORS = (_CONNECTION, "HYDI_CONTROL_FD")
"""Variables of Hydra that name descriptors through which the MPI library talks to it."""


def main() -> int:
    """Runs the worker. Returns 0 also if it fails: the launcher ends the job, not mpiexec.

    Open MPI would leave the other workers a second, and MPICH would not end them.
    """
    arguments = _arguments()
    parent = os.getppid()
    start = f"{arguments.job_id}.{arguments.restart}"
    events: Events = queue.SimpleQueue()
    with signals_as_events(events), contextlib.ExitStack() as stack:
        signal.signal(signal.SIGUSR1, lambda *_: events.put(SignalReceived(signal.SIGTERM)))
        _watch_parent(parent, events)
        rank = 0
        try:
            cluster = _cluster(arguments)
            rank = cluster.task_index
            _say(begin_line(rank, start))
            worker = _started(arguments, cluster, events, stack)
        except (ValueError, OSError) as error:
            why = str(error).removesuffix(".")
            say(f"worker {rank} cannot be started on host {socket.gethostname()}: {why}")
            report = EndReport(rank, 2, 0.0, time.time(), reason=None)
            _say(end_line(report, start))
            return 0
        report = end_of(worker, events, arguments.grace_seconds)
        _say(end_line(report, start))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it is for workers that still run
    if report.returncode and _CONNECTION in os.environ:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tfscale launch", allow_abbrev=False)
    parser.add_argument("--job_id", required=True)
    parser.add_argument("--restart", type=int, required=True)
    parser.add_argument("--base_port", type=int, required=True)
    parser.add_argument("--grace_seconds", type=float, required=True)
    parser.add_argument("--hosts", default="")
    parser.add_argument("--gpus_per_worker", type=int)
    parser.add_argument("--cpus_per_worker", type=int)
    parser.add_argument("--log_dir", type=Path)
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def _cluster(arguments: argparse.Namespace) -> Cluster:
    environ = {**os.environ, **mpi_environment(arguments.hosts, arguments.base_port)}
    one = Cluster({"worker": (f"127.0.0.1:{arguments.base_port}",)}, "worker", 0)
    return cluster_from_mpi(environ) or one


def _started(
    arguments: argparse.Namespace, cluster: Cluster, events: Events, stack: contextlib.ExitStack
) -> SupervisedWorker:
    address = cluster.jobs["worker"][cluster.task_index]
    port = int(address.rpartition(":")[2])
    try:
        reserved = stack.enter_context(ReservedPort(port, used_before=True))
    except OSError as error:
        raise OSError(
            f"port {port} is not available ({error.strerror}). Run the job again, which takes "
            "other ports, or choose them with --option base_port=N"
        ) from error
    index, folder = cluster.task_index, arguments.log_dir
    name = f"worker-{index}"
    log: Path | None = None
    if folder is None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfscale-")))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        log = log_file(folder, name, arguments.restart)
    reason = exit_reason_file(folder, name, arguments.restart)
    environment = _environment(arguments, cluster, reason)
    reserved.release()
    return started_task(
        f"worker {index}",
        cluster,
        arguments.command,
        environment,
        process_index=index,
        exit_reason_file=reason,
        log=log,
        output=SharedOutput(None),
        events=events,
        inherited=[int(os.environ[name]) for name in _DESCRIPTORS if name in os.environ],
    )


def _environment(
    arguments: argparse.Namespace, cluster: Cluster, exit_reason: Path
) -> Mapping[str, str]:
    local_rank, local_size = cluster.task_index, cluster.num_workers
    if arguments.hosts:
        places = [
            (ordinal, count)
            for _, count in parse_hosts(arguments.hosts)
            for ordinal in range(count)
        ]
        local_rank, local_size = places[cluster.task_index]
    shares = Shares.of_host(local_size, arguments.gpus_per_worker, arguments.cpus_per_worker)
    return {
        **os.environ,
        **dict(pair.split("=", 1) for pair in arguments.env),
        **shares.environment("worker", local_rank),
        JOB_VARIABLE: arguments.job_id,
        **task_variables(cluster, arguments.restart, exit_reason),
    }


def _watch_parent(parent: int, events: Events) -> None:
    """Ends the worker if mpiexec dies, which does not end what it started."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
        events.put(SignalReceived(signal.SIGTERM))

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # mpiexec has gone
        os.write(sys.stdout.fileno(), line.encode())


if __name__ == "__main__":
    sys.exit(main())
