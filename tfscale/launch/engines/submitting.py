"""Hands a job to an engine: its folder, its files, its record."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from tfscale.files.output_files import reason, write_whole
from tfscale.launch.engines.engine import Engine, Submission
from tfscale.launch.engines.engine_tools import EngineFailed, run_tool
from tfscale.launch.engines.job_record import JOBS_VARIABLE, JobRecord, new_record
from tfscale.launch.engines.job_request import JobRequest


def submit(engine: Engine, request: JobRequest, jobs: Path) -> JobRecord:
    """Submits a job.

    Args:
        engine: The engine.
        request: What is asked for.
        jobs: The folder of all jobs; it is created if missing.

    Returns:
        The record of the job, which is kept in its folder.

    Raises:
        ValueError: If the engine cannot do what is asked.
        EngineFailed: If it does not take the job, or there can be no folder for the job or its
            logs. Nothing of the job is left.
        OSError: If its files cannot be written.
    """
    job = new_record(request, engine.name, jobs)
    submission = engine.submission(request, job)
    try:
        job.folder.mkdir(parents=True)
    except OSError as error:
        raise EngineFailed(
            f"`{JOBS_VARIABLE}` must be a folder that can be written. Received: {jobs} "
            f"({reason(error)}). Choose another one."
        ) from error
    try:
        if submission.writes_logs_here:
            _make_log_dir(job)
        for name, text in submission.files.items():
            write_whole(job.folder / name, text)
        job.save()  # before the engine may start it
        output = _run(submission, job)
        job = job.with_engine_id(engine.engine_id(output))
        job.save()
    except BaseException:
        shutil.rmtree(job.folder, ignore_errors=True)
        raise
    return job


def _make_log_dir(job: JobRecord) -> None:
    try:
        job.log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineFailed(
            f"`--log_dir` must be a folder that can be written. Received: {job.log_dir} "
            f"({reason(error)}). Choose another one."
        ) from error


def _run(submission: Submission, job: JobRecord) -> str:
    """Runs the commands of a submission, and undoes them if one fails."""
    output = ""
    try:
        for command in submission.commands:
            output = run_tool(
                command,
                folder=job.folder,
                cure="Nothing was submitted; `--dry_run` prints what would be.",
            )
    except BaseException:
        for command in submission.undo:
            with contextlib.suppress(EngineFailed):  # the first error is the one to show
                run_tool(command, folder=job.folder, cure="")
        raise
    return output
