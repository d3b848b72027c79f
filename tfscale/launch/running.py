"""Runs a job in the foreground, or hands it to its engine."""

from __future__ import annotations

import argparse
import os
from typing import Any

from strategies.extension import JOB_VARIABLE
from tfscale.cli.errors import complain
from tfscale.launch.elastic.flags import refuse_unfit_flags, run_elastic
from tfscale.launch.engine_flags import request_of
from tfscale.launch.engines import Engine, EngineFailed, JobRequest, engine_named, jobs_folder
from tfscale.launch.engines.engine import Submission
from tfscale.launch.engines.in_background import InBackground
from tfscale.launch.engines.job_record import new_record
from tfscale.launch.engines.missing_programs import missing_programs
from tfscale.launch.engines.submitting import submit
from tfscale.launch.hosts import Hosts
from tfscale.launch.local_workers import launch_local_workers

_PROGRAM = "tfscale launch"
_ONLY_LOCAL = ("hosts", "host_index", "rendezvous")


def run_job(arguments: argparse.Namespace) -> int:
    """Runs or submits the job that the flags of `tfscale launch` describe.

    Returns:
        The exit status of the command.
    """
    try:
        if arguments.dry_run:
            submission = submission_of(arguments)
            print(submission)
            for missing in missing_programs(submission.commands):
                complain(_PROGRAM, f"printed only; to submit it here: {missing}")
            return 0
        request, engine = _checked(arguments)
        if isinstance(engine, InBackground) and not arguments.detach:
            engine.check(request)
            return _run_here(engine, arguments, request)
        job = submit(engine, request, jobs_folder())
    except (FileNotFoundError, NotImplementedError, ValueError) as error:
        complain(_PROGRAM, error)
        return 2
    except EngineFailed as error:
        complain(_PROGRAM, error)
        return 1
    except OSError as error:
        complain(_PROGRAM, f"the job could not be started: {error}")
        return 1
    print(job.id)
    where = f"; its output is in {job.log_dir}" if job.log_dir.is_dir() else ""
    complain(
        _PROGRAM,
        f"submitted to {engine.name} as {job.engine_id}{where}. Watch it: "
        f"tfscale jobs logs {job.id} --follow. Stop it: tfscale jobs stop {job.id}.",
    )
    return 0


def submission_of(arguments: argparse.Namespace) -> Submission:
    """Returns what the flags of `tfscale launch` would submit. Nothing is written or run.

    Raises:
        ValueError: If a flag is wrong, or the engine cannot do what it asks for.
        FileNotFoundError: If a program that the engine starts is missing.
    """
    request, engine = _checked(arguments)
    return engine.submission(request, new_record(request, engine.name, jobs_folder()))


def _checked(arguments: argparse.Namespace) -> tuple[JobRequest, Engine]:
    request = _checked_request(arguments)
    engine = engine_named(arguments.engine, vars(arguments))
    _refuse_unknown_options(engine, request)
    return request, engine


def _run_here(engine: InBackground, arguments: argparse.Namespace, request: JobRequest) -> int:
    run = getattr(engine, "run", None)
    if run is not None:
        return int(run(request))
    if arguments.rendezvous is not None:
        return run_elastic(arguments, request)
    hosts = None
    if arguments.hosts is not None:
        hosts = Hosts(tuple(arguments.hosts.split(",")), arguments.host_index)
    outcome = launch_local_workers(
        arguments.command,
        request.num_workers,
        num_ps=request.num_ps,
        num_data_workers=request.num_data_workers,
        hosts=hosts,
        gpus_per_worker=request.gpus_per_worker,
        cpus_per_worker=request.cpus_per_worker,
        time_limit=request.time_limit,
        grace_seconds=request.grace_seconds,
        max_restarts=request.max_restarts,
        early_seconds=request.early_seconds,
        start_seconds=arguments.start_seconds,
        log_dir=request.log_dir,
        environment=request.environment,
        job_id=os.environ.get(JOB_VARIABLE),  # of a job in the background, or of a cluster's
    )
    if outcome.status != 0:
        complain(_PROGRAM, f"{outcome}.")
    return outcome.status


def _checked_request(arguments: argparse.Namespace) -> JobRequest:
    refuse_unfit_flags(arguments)
    if (arguments.hosts is None) != (arguments.host_index is None):
        raise ValueError("--hosts and --host_index must be given together, or neither of them")
    if arguments.hosts is None and arguments.num_workers is None:
        raise ValueError("the following arguments are required: --num_workers, or --hosts")
    for flag in _ONLY_LOCAL:
        value: Any = getattr(arguments, flag)
        if arguments.engine != "local" and value is not None:
            raise ValueError(
                f"`--{flag}` must be left out with --engine={arguments.engine}, which places the "
                f"workers itself. Received: --{flag}={value}."
            )
    return request_of(arguments)


def _refuse_unknown_options(engine: Engine, request: JobRequest) -> None:
    unknown = [name for name in request.options if name not in engine.options]
    if unknown:
        known = ", ".join(engine.options) or "none"
        raise ValueError(
            f"`--option` must be one that --engine={engine.name} has: {known}. Received: "
            f"{unknown[0]}={request.options[unknown[0]]!r}."
        )
