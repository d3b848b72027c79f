"""The engine `slurm`, as `tfscale launch` and `tfscale jobs` use it."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from strategies.extension import (
    EXIT_REASON_VARIABLE,
    JOB_VARIABLE,
    RESTART_VARIABLE,
    Deadline,
)
from tfscale.launch.engines.engine import JobStatus, State, Submission
from tfscale.launch.engines.engine_tools import EngineFailed, run_tool
from tfscale.launch.engines.job_record import JobRecord
from tfscale.launch.engines.job_request import JobRequest
from tfscale.launch.engines.slurm.answers import Fields, jobs_of, status_of
from tfscale.launch.engines.slurm.batch_script import (
    batch_log,
    batch_script,
    workers_per_host,
)
from tfscale.launch.engines.slurm.options import OPTIONS, array_members, checked
from tfscale.launch.engines.slurm.supervise import STOP_FILE
from tfscale.launch.task_files import task_logs

SCRIPT = "job.sbatch"
_CURE = "Is this a login node of the cluster, and is slurmctld up?"
_POLL_SECONDS = 0.5
_OWN_VARIABLES = ("TF_CONFIG", JOB_VARIABLE, RESTART_VARIABLE, EXIT_REASON_VARIABLE)
# Where sbatch's name of a variable does not follow from its flag.
_VARIABLES = {"array": "ARRAY_INX", "time": "TIMELIMIT", "chdir": "", "ntasks": "", "nodes": ""}


class Slurm:
    """Submits batch jobs whose workers are the tasks of one `srun`.

    Args:
        environ: The environment that sbatch has. None means that of this process.
    """

    name = "slurm"
    options = OPTIONS

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ

    def submission(self, request: JobRequest, job: JobRecord) -> Submission:
        """Returns the script and the command that submits it."""
        _refuse(request)
        script = batch_script(request, job)
        self._refuse_variables(script)
        return Submission({SCRIPT: script}, (("sbatch", "--parsable", SCRIPT),))

    def engine_id(self, output: str) -> str:
        """Returns Slurm's number of the job, from "4711" or "4711;cluster"."""
        found = re.search(r"^([0-9]+)(;.*)?\Z", output.strip(), re.M)
        if found is None:
            raise EngineFailed(
                f"sbatch did not answer with the number of a job: {output.strip()[-300:]!r}. "
                "`squeue --me` shows whether it took the job."
            )
        return found[1]

    def status(self, job: JobRecord) -> JobStatus:
        """Asks Slurm, and reads what the batch job has recorded."""
        return status_of(_jobs(job), job.folder, job.options.get("array", ""))

    def logs(self, job: JobRecord) -> Mapping[str, Path | tuple[str, ...]]:
        """Returns the log files of the tasks, and what the batch job said."""
        if "array" not in job.options:
            return {"batch": batch_log(job.log_dir), **task_logs(job.log_dir)}
        found: dict[str, Path | tuple[str, ...]] = {}
        for number in array_members(job.options["array"]):
            member = f"array-{number}"
            found[f"{member}/batch"] = batch_log(job.log_dir, str(number))
            for task, log in task_logs(job.log_dir / member).items():
                found[f"{member}/{task}"] = log
        return found

    def stop(self, job: JobRecord) -> None:
        """Sends SIGTERM to the workers, and ends the job after its grace."""
        (job.folder / STOP_FILE).touch()
        run_tool(("scancel", "--state=PENDING", job.engine_id), cure=_CURE)
        if self.status(job).state is State.RUNNING:
            # To the tasks; the batch job records how they end.
            run_tool(("scancel", "--state=RUNNING", "--signal=TERM", job.engine_id), cure=_CURE)
        deadline = Deadline(job.grace_seconds)
        while not self.status(job).state.is_over:
            if deadline.is_over():
                run_tool(("scancel", job.engine_id), cure=_CURE)
                return
            time.sleep(_POLL_SECONDS)

    def ask_for_stacks(self, job: JobRecord) -> str:
        """Runs a small program on every host of the job, beside the workers."""
        running = [each for each in _jobs(job) if each.get("JobState") == "RUNNING"]
        if not running:
            raise EngineFailed(f"{job.id} does not run. `tfscale jobs status {job.id}` has more.")
        asked = found = 0
        for each in running:
            member = f"-array-{each['ArrayTaskId']}" if "ArrayTaskId" in each else ""
            answer = self._on_every_host(each, (f"{job.id}{member}",), job)
            for pair in re.findall("asked ([0-9]+) of ([0-9]+)", answer):
                asked, found = asked + int(pair[0]), found + int(pair[1])
        if not asked:
            raise EngineFailed(
                f"none of the {found} processes of {job.id} can be asked: a program answers once "
                "it has built a strategy of tfscale. `srun --jobid --overlap` with `py-spy dump` "
                "shows others."
            )
        return f"asked {asked} processes on {len(running)} job(s) of Slurm"

    def _on_every_host(self, each: Fields, arguments: tuple[str, ...], job: JobRecord) -> str:
        python = job.options.get("python", sys.executable)
        program = (python, "-m", "tfscale.launch.engines.stack_request", *arguments)
        count = each["NumNodes"].partition("-")[0]
        step = (
            *(
                "srun",
                f"--jobid={each['JobId']}",
                "--overlap",
                "--mem=0",
                "--input=none",
                "--quiet",
            ),
            *(f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1", "--cpus-per-task=1"),
        )
        # The program fails on a host where it asks none; others may still have been asked.
        shell = ("sh", "-c", f"{shlex.join(program)} || true")
        environ = {k: v for k, v in self._environ.items() if not k.startswith("SLURM_JOB")}
        return run_tool((*step, *shell), cure=_CURE, environ=environ)

    def _refuse_variables(self, script: str) -> None:
        for line in script.splitlines():
            flag = re.match("#SBATCH --([a-z-]+)", line)
            if flag is None:
                continue
            own = _VARIABLES.get(flag[1], flag[1].upper().replace("-", "_"))
            name = f"SBATCH_{own}"
            if own and self._environ.get(name):
                raise ValueError(
                    f"`{name}` must be unset: for sbatch it has precedence over {line[8:]!r}. "
                    f"Received: {name}={self._environ[name]}."
                )


def _refuse(request: JobRequest) -> None:
    if request.num_data_workers:
        raise ValueError(
            "`--num_data_workers` must be 0 with --engine=slurm: all tasks of a step have the same "
            f"resources. Received: --num_data_workers={request.num_data_workers}. Give each worker "
            "more CPUs with --cpus_per_worker; it then computes its own input."
        )
    own = [name for name in _OWN_VARIABLES if name in request.environment]
    if own:
        raise ValueError(
            f"`--env` must not set {own[0]}, which each task gets from its step. Received: "
            f"--env {own[0]}={request.environment[own[0]]}. Leave it out."
        )
    options = checked(request.options)
    if request.least_workers is not None:
        _refuse_elastic(request)
    elif {"nodes", "ntasks_per_node"} <= options.keys():
        product = int(options["nodes"]) * int(options["ntasks_per_node"])
        if product != len(request.tasks):
            raise ValueError(
                "`nodes` x `ntasks_per_node` must be the number of tasks, "
                f"{len(request.tasks)}. Received: --option nodes={options['nodes']} --option "
                f"ntasks_per_node={options['ntasks_per_node']}. Leave one of them out."
            )


def _refuse_elastic(request: JobRequest) -> None:
    received = f"Received: --num_workers={request.least_workers}:{request.num_workers}"
    for name, value in (("num_ps", request.num_ps), ("option nodes", request.options.get("nodes"))):
        if value:
            raise ValueError(
                f"`--{name}` must be left out if the number of workers may change. {received} "
                f"--{name}={value}. Leave it out, or give one number of workers."
            )
    each = workers_per_host(request)
    if (request.least_workers or 0) % each or request.num_workers % each:
        raise ValueError(
            "`--num_workers` must be multiples of the workers on each host, because hosts come and "
            f"go. {received} --option ntasks_per_node={each}. Choose another number of one of them."
        )


def _jobs(job: JobRecord) -> list[Fields]:
    try:
        answer = run_tool(("scontrol", "show", "job", job.engine_id, "--oneliner"), cure=_CURE)
    except EngineFailed as error:
        if "Invalid job id" not in str(error):
            raise
        return []  # It ended more than MinJobAge ago.
    return jobs_of(answer)
