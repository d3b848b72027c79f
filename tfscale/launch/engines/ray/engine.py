"""The engine `ray`: a job of a Ray cluster, which starts each worker where Ray has room.

    tfscale launch --engine=ray --num_workers=4 --option address=http://head:8265 -- python train.py

Only the program `ray` is used here. On the cluster driver.py runs, as a job that Ray lists; it
starts the workers and restarts them after the loss of one, or of a node.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

from strategies.extension import Deadline
from tfscale.launch.engines.engine import JobStatus, State, Submission
from tfscale.launch.engines.engine_tools import EngineFailed, run_tool
from tfscale.launch.engines.job_record import JobRecord
from tfscale.launch.engines.job_request import JobRequest, refuse_all_but_workers
from tfscale.launch.outcome import PREEMPTED_STATUS
from tfscale.launch.task_files import task_logs

JOB_FILE_VARIABLE = "TFSCALE_RAY_JOB"
"""The variable of the driver with what it is to run, as JSON."""
STOP_FILE = "stop"
STACKS_FILE = "stacks"
_DRIVER = "tfscale.launch.engines.ray.driver"
_CURE = "`--option address=http://HEAD:8265` names the cluster; `ray job list` shows its jobs."
_STATES = {
    "PENDING": State.PENDING,
    "RUNNING": State.RUNNING,
    "SUCCEEDED": State.SUCCEEDED,
    "STOPPED": State.STOPPED,
    "FAILED": State.FAILED,
}
_POLL_SECONDS = 1.0
_DRIVER_SECONDS = 5.0  # the driver looks for the file once a second, and Ray takes its time


class Ray:
    """Submits jobs with `ray job submit`, and wraps Ray's own listing of them."""

    name = "ray"
    options: Mapping[str, str] = {
        "address": "the dashboard, such as http://head:8265 (default: $RAY_API_SERVER_ADDRESS)",
        "upload": "a folder that Ray copies to the nodes, in which the command then runs (default: "
        "none; the working directory has to be on all nodes)",
        "placement": "pack, on few nodes, or spread (default: pack)",
        "python": "the Python of the cluster (default: python)",
    }

    def submission(self, request: JobRequest, job: JobRecord) -> Submission:
        """Returns the command that submits the job."""
        _refuse(request)
        options = request.options
        upload = options.get("upload")
        described = {
            "job_id": job.id,
            "command": request.command,
            "num_workers": request.num_workers,
            "resources": _resources(request),
            "placement": options.get("placement", "pack").upper(),
            "environment": dict(request.environment),
            "folder": None if upload else str(request.folder),
            "job_folder": str(job.folder),
            "log_dir": str(job.log_dir),
            "max_restarts": request.max_restarts,
            "early_seconds": request.early_seconds,
            "grace_seconds": request.grace_seconds,
            "time_limit": request.time_limit,
        }
        runtime = {"env_vars": {JOB_FILE_VARIABLE: json.dumps(described)}}
        command = (
            *("ray", "job", "submit", *_address(options), f"--submission-id={job.id}"),
            *("--no-wait", "--log-style=record", f"--runtime-env-json={json.dumps(runtime)}"),
            *([f"--working-dir={upload}"] if upload else []),
            *("--", options.get("python", "python"), "-m", _DRIVER),
        )
        return Submission({}, (command,))

    def engine_id(self, output: str) -> str:
        """Returns Ray's id of the job, which is the id of its record."""
        found = re.search(r"Job '([^']+)' submitted successfully", output)
        if found is None:
            raise EngineFailed(f"Ray did not take the job: {output.strip()[-300:]!r}. {_CURE}")
        return found[1]

    def status(self, job: JobRecord) -> JobStatus:
        """Asks Ray."""
        return status_of(self._ray(job, "status", "--log-style=record"))

    def logs(self, job: JobRecord) -> Mapping[str, Path | tuple[str, ...]]:
        """Returns the log files of the workers that this host sees, and Ray's log of the job."""
        command = ("ray", "job", "logs", *_address(job.options), "--log-style=record", job.id)
        return {"launcher": command} | task_logs(job.log_dir)

    def stop(self, job: JobRecord) -> None:
        """Lets the driver end the workers, which have their grace, and then stops it."""
        (job.folder / STOP_FILE).touch()
        deadline = Deadline(job.grace_seconds + _DRIVER_SECONDS)
        while not deadline.is_over():
            if self.status(job).state.is_over:
                return
            time.sleep(_POLL_SECONDS)
        self._ray(job, "stop", "--log-style=record")

    def ask_for_stacks(self, job: JobRecord) -> str:
        """Lets the driver ask the workers on all nodes."""
        if self.status(job).state is not State.RUNNING:
            raise EngineFailed(f"{job.id} does not run. `tfscale jobs status` has more.")
        (job.folder / STACKS_FILE).touch()
        return "the driver asks all workers within a second or two; see `tfscale jobs logs`"

    def _ray(self, job: JobRecord, verb: str, *flags: str) -> str:
        command = ("ray", "job", verb, *_address(job.options), *flags, job.id)
        return run_tool(command, cure=_CURE)


def status_of(answer: str) -> JobStatus:
    """Returns the status from what `ray job status` prints.

    Example:
        >>> status_of("Job 'digits-7f3a21' succeeded").state
        <State.SUCCEEDED: 'succeeded'>
    """
    found = re.search(
        r"(?:Status for job '[^']*': (?:JobStatus\.)?|Job '[^']*' (?:was )?)(\w+)", answer
    )
    state = _STATES.get(found[1].upper(), State.UNKNOWN) if found else State.UNKNOWN
    said = re.search(r"Status message: (.*)", answer)
    code = re.search(r"exit code (\d+)", answer)
    exit_status = int(code[1]) if code else (0 if state is State.SUCCEEDED else None)
    if state is State.FAILED and exit_status in (PREEMPTED_STATUS, 143):
        state = State.STOPPED
    return JobStatus(state, said[1].strip() if said else "", exit_status)


def _address(options: Mapping[str, str]) -> tuple[str, ...]:
    return (f"--address={options['address']}",) if "address" in options else ()


def _resources(request: JobRequest) -> dict[str, float]:
    found: dict[str, float] = {"CPU": request.cpus_per_worker or 1}
    if request.gpus_per_worker:
        found["GPU"] = request.gpus_per_worker
    if request.memory is not None:
        found["memory"] = request.memory
    return found


def _refuse(request: JobRequest) -> None:
    refuse_all_but_workers(request, Ray.name)
    placement = request.options.get("placement", "pack")
    if placement not in ("pack", "spread"):
        raise ValueError(
            f"`--option placement` must be pack or spread. Received: placement={placement!r}."
        )
