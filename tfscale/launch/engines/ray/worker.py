"""One worker of a job on Ray: an actor that runs the command as a process of its node."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strategies import Cluster
from strategies.extension import JOB_VARIABLE
from tfscale.launch.engines.end_report import EndReport, end_of
from tfscale.launch.engines.stack_request import ask, members_of
from tfscale.launch.events import Events, SignalReceived
from tfscale.launch.output import SharedOutput
from tfscale.launch.ports import reserve_port
from tfscale.launch.task_files import exit_reason_file, log_file
from tfscale.launch.task_start import started_task, task_variables

_NOT_FOR_WORKERS = ("TF_USE_LEGACY_KERAS", "TFSCALE_RAY_JOB")


class RayWorker:
    """Runs one worker, on the node on which Ray has put this actor.

    Args:
        rank: The index of the worker.
        job: What the driver was given; see engine.py.
        restart: Number of earlier starts of the job.
    """

    def __init__(self, rank: int, job: Mapping[str, Any], restart: int) -> None:
        self._rank, self._job, self._restart = rank, job, restart
        self._events: Events = queue.SimpleQueue()
        self._port = reserve_port()

    def address(self) -> str:
        """Returns the address at which the worker will listen."""
        import ray

        host = ray.util.get_node_ip_address()
        return f"[{host}]:{self._port.number}" if ":" in host else f"{host}:{self._port.number}"

    def run(self, addresses: tuple[str, ...]) -> EndReport:
        """Runs the worker until its end.

        Args:
            addresses: Those of all workers, by index.
        """
        job, rank = self._job, self._rank
        cluster = Cluster({"worker": addresses}, "worker", rank)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._port)
            folder = _log_folder(job["log_dir"], stack)
            name = f"worker-{rank}"
            reason = exit_reason_file(folder, name, self._restart)
            environment = {k: v for k, v in os.environ.items() if k not in _NOT_FOR_WORKERS}
            environment |= job["environment"]
            environment |= {JOB_VARIABLE: job["job_id"]}
            environment |= task_variables(cluster, self._restart, reason)
            if job["folder"] is not None:
                os.chdir(job["folder"])
            program, *arguments = job["command"]
            self._port.release()
            worker = started_task(
                f"worker {rank}",
                cluster,
                [sys.executable if program == "python" else program, *arguments],
                environment,
                process_index=rank,
                exit_reason_file=reason,
                log=log_file(folder, name, self._restart),
                output=SharedOutput(None),
                events=self._events,
            )
            return end_of(worker, self._events, job["grace_seconds"])

    def stop(self) -> None:
        """Ends the worker: SIGTERM, then SIGKILL after the grace period."""
        self._events.put(SignalReceived(signal.SIGTERM))

    def ask_for_stacks(self) -> int:
        """Asks the processes of the job on this node; returns how many were asked."""
        return ask(members_of(self._job["job_id"]))


def _log_folder(log_dir: str, stack: contextlib.ExitStack) -> Path:
    folder = Path(log_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # not a file system that the nodes share: Ray's log has the output
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfscale-")))
    return folder
