"""The engine `tpu_vm`: Cloud TPU VMs that exist already, over `gcloud compute tpus tpu-vm ssh`.

    tfscale launch --engine=tpu_vm --option tpu=my-tpu --option zone=us-west4-a -- python train.py

TensorFlow trains on all VMs of a slice from one process, so one process is started, on worker 0.
Tested with a recording stub of gcloud, and not on Google Cloud.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from tfscale.launch.engines.engine import JobStatus, State, Submission
from tfscale.launch.engines.engine_tools import EngineFailed, run_tool
from tfscale.launch.engines.job_record import JobRecord
from tfscale.launch.engines.job_request import JobRequest
from tfscale.launch.engines.tpu_vm.scripts import (
    log_script,
    stack_script,
    start_script,
    status_script,
    stop_script,
)
from tfscale.launch.outcome import PREEMPTED_STATUS

_CURE = "`gcloud compute tpus tpu-vm list --zone=ZONE` shows the TPU VMs and their state."
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_ZONE = re.compile(r"[a-z]+-[a-z]+[0-9]+-[a-z]")
_REFUSED = {
    "num_ps": "parameter servers do not use TPUs",
    "num_data_workers": "one process is started",
    "gpus_per_worker": "a TPU VM has no GPUs",
    "cpus_per_worker": "the process has the whole VM",
    "memory": "the process has the whole VM",
    "time_limit": "the VM has no scheduler; a queued resource takes --max-run-duration",
    "log_dir": "the output stays on the VM; `tfscale jobs logs` prints it",
}


class TpuVm:
    """Starts a process on a TPU VM, and asks the VM about it."""

    name = "tpu_vm"
    options: Mapping[str, str] = {
        "tpu": "name of the TPU VM or slice; required",
        "zone": "its zone; required",
        "project": "its project (default: that of gcloud)",
        "folder": "working directory of the command there (default: the home folder)",
        "internal_ip": "true: connect to the internal address",
    }

    def submission(self, request: JobRequest, job: JobRecord) -> Submission:
        """Returns the command that starts the process on the VM."""
        _refuse(request)
        script = start_script(request, job, request.options.get("folder", ""))
        return Submission({}, (_ssh(job.options, script),))

    def engine_id(self, output: str) -> str:
        """Returns the job's id, which names its folder on the VM."""
        started = re.search(r"^started (\S+)$", output, re.M)
        if started is None:
            raise EngineFailed(f"the VM did not start the job: {output.strip()[-300:]!r}. {_CURE}")
        return started[1]

    def status(self, job: JobRecord) -> JobStatus:
        """Asks the VM."""
        answer = self._ask(job, status_script(job))
        found = re.search(r"^tfscale: (running|ended|stopped) ([0-9]+)$", answer, re.M)
        place = f"{job.options['tpu']} in {job.options['zone']}"
        if found is None:
            said = f"{place} does not know it: the VM was created again, or has restarted."
            return JobStatus(State.UNKNOWN, said)
        number = int(found[2])
        if found[1] == "running":
            return JobStatus(State.RUNNING, f"On {place}.", restarts=number)
        if found[1] == "stopped" or number == PREEMPTED_STATUS:
            return JobStatus(State.STOPPED, f"On {place}.", number)
        state = State.FAILED if number else State.SUCCEEDED
        return JobStatus(state, f"On {place}.", number)

    def logs(self, job: JobRecord) -> Mapping[str, Path | tuple[str, ...]]:
        """Returns the command that prints the output of the process."""
        printed, followed = (
            shlex.join(_ssh(job.options, log_script(job, follow))) for follow in (False, True)
        )
        choice = f'if [ "${{1:-}}" = --follow ]; then exec {followed}; else exec {printed}; fi'
        return {job.tasks[0]: ("sh", "-c", choice, "logs")}

    def stop(self, job: JobRecord) -> None:
        """Ends the process group: SIGTERM, then SIGKILL after the grace period."""
        self._ask(job, stop_script(job), seconds=job.grace_seconds)

    def ask_for_stacks(self, job: JobRecord) -> str:
        """Sends SIGUSR2 to the processes of the job that handle it."""
        return self._ask(job, stack_script(job)).strip()

    def _ask(self, job: JobRecord, script: str, seconds: float = 0.0) -> str:
        return run_tool(_ssh(job.options, script), cure=_CURE, seconds=120.0 + seconds)


def _ssh(options: Mapping[str, str], script: str) -> tuple[str, ...]:
    target = [options["tpu"], f"--zone={options['zone']}"]
    if "project" in options:
        target.append(f"--project={options['project']}")
    if options.get("internal_ip") == "true":
        target.append("--internal-ip")
    ssh = ("gcloud", "compute", "tpus", "tpu-vm", "ssh", *target, "--worker=0")
    return (*ssh, "--quiet", f"--command={script}")


def _refuse(request: JobRequest) -> None:
    if request.num_workers != 1:
        raise ValueError(
            "`--num_workers` must be 1 with --engine=tpu_vm: TensorFlow trains on all VMs of a "
            f"slice from one process. Received: --num_workers={request.num_workers}."
        )
    for flag, why in _REFUSED.items():
        value = getattr(request, flag)
        if value:
            raise ValueError(
                f"`--{flag}` must be left out with --engine=tpu_vm: {why}. "
                f"Received: --{flag}={value}."
            )
    for option, pattern, example in (("tpu", _NAME, "my-tpu"), ("zone", _ZONE, "us-west4-a")):
        given = request.options.get(option)
        if given is None or not pattern.fullmatch(given):
            raise ValueError(
                f"`--option {option}` must be the {'name' if option == 'tpu' else 'zone'} of the "
                f"TPU VM. Received: {option}={given!r}. Example: --option {option}={example}."
            )
    if request.options.get("internal_ip", "false") not in ("true", "false"):
        raise ValueError(
            "`--option internal_ip` must be true or false. Received: "
            f"internal_ip={request.options['internal_ip']!r}."
        )
