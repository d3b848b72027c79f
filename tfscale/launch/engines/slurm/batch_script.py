"""The script for sbatch, from what is asked for. Reads nothing from Slurm."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from tfscale.launch.engines.job_record import JobRecord
from tfscale.launch.engines.job_request import JobRequest
from tfscale.launch.engines.slurm.options import sbatch_flags, srun_flags

_MIB = 1 << 20
# Characters that sbatch reads in a special way in a line of a script or in the name of a file.
_SPECIAL = "%\\\"'\n"


def batch_script(request: JobRequest, job: JobRecord) -> str:
    """Returns the script.

    Args:
        request: What is asked for. Its options are those that `options.checked` accepts.
        job: The record of the job.

    Raises:
        ValueError: If a path cannot stand in a script.
    """
    lines = "".join(f"#SBATCH {flag}\n" for flag in _sbatch(request, job))
    exports = "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in _variables(request).items()
    )
    return (
        "#!/bin/sh\n"
        "# Written by `tfscale launch --engine=slurm`.\n"
        f"{lines}"
        "unset TF_CONFIG\n"
        f"{exports}"
        f"exec {_supervise(request, job)}\n"
    )


def batch_log(log_dir: Path, member: str = "") -> Path:
    """Returns the file with what the batch job says.

    Args:
        log_dir: The folder of the logs.
        member: The number of the member of a job array.
    """
    return log_dir / (f"batch-{member}.log" if member else "batch.log")


def resources(request: JobRequest) -> list[str]:
    """Returns the flags for what each task needs, for sbatch; srun has them but for memory."""
    flags = []
    if request.cpus_per_worker is not None:
        flags.append(f"--cpus-per-task={request.cpus_per_worker}")
    if request.gpus_per_worker:
        flags.append(f"--gpus-per-task={request.gpus_per_worker}")
    return flags


def _sbatch(request: JobRequest, job: JobRecord) -> list[str]:
    _plain("log_dir", job.log_dir)
    log = batch_log(job.log_dir, "%a" if "array" in request.options else "")
    flags = [
        f"--job-name={request.name}",
        f'--chdir="{_plain("folder", request.folder)}"',
        f'--output="{log}"',
        "--open-mode=append",
        "--export=ALL",
        "--no-requeue" if request.options.get("requeue") == "no" else "--requeue",
        # To the tasks; with B: it would reach the batch shell only.
        f"--signal=TERM@{max(1, math.ceil(request.grace_seconds))}",
        *(_fixed_size(request) if request.least_workers is None else _changing_size(request)),
    ]
    if request.memory is not None:
        # Slurm knows memory of a host, a CPU or a GPU, and not of a task.
        each = math.ceil(request.memory / (request.cpus_per_worker or 1) / _MIB)
        flags.append(f"--mem-per-cpu={each}M")
    if request.time_limit is not None:
        minutes, seconds = divmod(math.ceil(request.time_limit), 60)
        flags.append(f"--time={minutes}:{seconds:02}")
    return [*flags, *sbatch_flags(_but_for_size(request))]


def workers_per_host(request: JobRequest) -> int:
    """Returns how many workers each host of a job has whose number of workers may change."""
    return int(request.options.get("ntasks_per_node", "1"))


def _fixed_size(request: JobRequest) -> list[str]:
    return [f"--ntasks={len(request.tasks)}", *resources(request)]


def _changing_size(request: JobRequest) -> list[str]:
    """Returns flags for as many hosts as Slurm can give, and what each of them needs.

    A number of tasks, also one for each host, would be that for the least hosts, and Slurm 22.05
    then gives no more. So the tasks are known to the step only.
    """
    each, least = workers_per_host(request), request.least_workers or 0
    hosts = f"--nodes={least // each}-{request.num_workers // each}"
    gpus = [f"--gpus-per-node={each * request.gpus_per_worker}"] if request.gpus_per_worker else []
    cpus = [flag for flag in resources(request) if flag.startswith("--cpus-per-task")]
    mincpus = f"--mincpus={each * (request.cpus_per_worker or 1)}"
    return [hosts, mincpus, *cpus, *gpus, "--no-kill"]


def _but_for_size(request: JobRequest) -> Mapping[str, str]:
    if request.least_workers is None:
        return request.options
    return {name: text for name, text in request.options.items() if name != "ntasks_per_node"}


def _variables(request: JobRequest) -> Mapping[str, str]:
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if request.gpus_per_worker == 0 else {}
    return {**hidden, **request.environment}


def _supervise(request: JobRequest, job: JobRecord) -> str:
    """Returns the command of the batch job, a flag a line: people read the script."""
    srun = [
        "--kill-on-bad-exit=1",
        "--input=none",
        # Not the cluster's WaitTime: the chief may write a model long after the others have ended.
        "--wait=0",
        *resources(request),
        *srun_flags(_but_for_size(request)),
    ]
    restarts = [] if request.max_restarts is None else [f"--max_restarts={request.max_restarts}"]
    python = request.options.get("python", sys.executable)
    lines = [
        shlex.join([python, "-m", "tfscale.launch.engines.slurm.supervise"]),
        *(f"--job_id={job.id}", *_quoted("folder", job.folder), *_quoted("log_dir", job.log_dir)),
        *(f"--num_workers={request.num_workers}", f"--num_ps={request.num_ps}"),
        *(
            []
            if request.least_workers is None
            else [
                f"--least_workers={request.least_workers}",
                f"--workers_per_host={workers_per_host(request)}",
            ]
        ),
        *(*restarts, f"--early_seconds={request.early_seconds:g}"),
        *(["--no_requeue"] if request.options.get("requeue") == "no" else []),
        *(f"--srun={flag}" for flag in srun),
        f"-- {shlex.join(request.command)}",
    ]
    return " \\\n    ".join(lines)


def _quoted(name: str, path: Path) -> list[str]:
    return [shlex.quote(f"--{name}={path}")]


def _plain(name: str, path: Path) -> str:
    text = str(path)
    found = [character for character in _SPECIAL if character in text]
    if found:
        raise ValueError(
            f"`{name}` must not contain {found[0]!r}, which sbatch reads in a special way. "
            f"Received: {name}={text!r}. Choose another folder."
        )
    return text
