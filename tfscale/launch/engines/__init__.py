"""Engines: what runs the workers of a job, from this host to a cluster's scheduler.

    engine = engine_named("slurm")
    job = submit(engine, request, jobs_folder())
    engine.status(job)

Each engine is a module with a class that follows `Engine`. It turns a `JobRequest` into files and
commands, and afterwards answers for the `JobRecord`. None of them imports the scheduler's libraries
or TensorFlow.
"""

from tfscale.launch.engines.engine import Engine, JobStatus, State, Submission
from tfscale.launch.engines.engine_tools import EngineFailed
from tfscale.launch.engines.job_record import (
    JOBS_VARIABLE,
    JobRecord,
    NoSuchJob,
    all_records,
    find_record,
    jobs_folder,
)
from tfscale.launch.engines.job_request import JobRequest, default_name
from tfscale.launch.engines.registry import ENGINES, engine_named
from tfscale.launch.engines.submitting import submit

__all__ = [
    "ENGINES",
    "JOBS_VARIABLE",
    "Engine",
    "EngineFailed",
    "JobRecord",
    "JobRequest",
    "JobStatus",
    "NoSuchJob",
    "State",
    "Submission",
    "all_records",
    "default_name",
    "engine_named",
    "find_record",
    "jobs_folder",
    "submit",
]
