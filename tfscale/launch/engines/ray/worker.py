"""One worker of a job on Ray: an actor that runs the command as a process of its node."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from strategies import Cluster
from strategies.extension import (
    EXIT_REASON_VARIABLE,
    JOB_VARIABLE,
    RESTART_VARIABLE,
    read_exit_reason,
)
from tfscale.files.output_files import open_log
from tfscale.launch.engines.end_report import EndReport
from tfscale.launch.engines.stack_request import ask
from tfscale.launch.events import Events, SignalReceived
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.output import OutputRelay, SharedOutput
from tfscale.launch.ports import reserve_port
from tfscale.launch.supervision import SupervisedWorker, Supervision
from tfscale.launch.worker_process import WorkerProcess

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
        name = f"worker-{rank}.attempt-{self._restart}"
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._port)
            folder = _log_folder(job["log_dir"], stack)
            exit_reason_file = folder / f"{name}.error.json"
            exit_reason_file.unlink(missing_ok=True)
            environment = {k: v for k, v in os.environ.items() if k not in _NOT_FOR_WORKERS}
            environment |= job["environment"]
            environment |= {
                "TF_CONFIG": cluster.to_tf_config(),
                JOB_VARIABLE: job["job_id"],
                RESTART_VARIABLE: str(self._restart),
                EXIT_REASON_VARIABLE: str(exit_reason_file),
                "PYTHONUNBUFFERED": "1",
            }
            log: BinaryIO = stack.enter_context(open_log(folder / f"{name}.log"))
            if job["folder"] is not None:
                os.chdir(job["folder"])
            self._port.release()
            guard = stack.enter_context(OrphanGuard())
            read_end, write_end = os.pipe()
            began = time.monotonic()
            command = [sys.executable if word == "python" else word for word in job["command"][:1]]
            command += job["command"][1:]
            process = WorkerProcess(rank, command, environment, write_end, self._events)
            os.close(write_end)
            guard.add(process.group)
            output = SharedOutput(None)
            relay = OutputRelay(rank, f"worker {rank}", read_end, output, self._events, log)
            worker = SupervisedWorker(process, relay, cluster, exit_reason_file, f"worker {rank}")
            outcome = Supervision([worker], self._events, job["grace_seconds"], guard).run()
            return EndReport(
                rank=rank,
                returncode=1 if process.returncode is None else process.returncode,
                seconds=time.monotonic() - began,
                at=time.time(),
                was_stopped=outcome.stop_signal is not None and outcome.first_failure is None,
                reason=read_exit_reason(exit_reason_file),
            )

    def stop(self) -> None:
        """Ends the worker: SIGTERM, then SIGKILL after the grace period."""
        self._events.put(SignalReceived(signal.SIGTERM))

    def ask_for_stacks(self) -> int:
        """Asks the processes of the job on this node; returns how many were asked."""
        return ask(self._job["job_id"])[0]


def _log_folder(log_dir: str, stack: contextlib.ExitStack) -> Path:
    folder = Path(log_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # not a file system that the nodes share: Ray's log has the output
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfscale-")))
    return folder
