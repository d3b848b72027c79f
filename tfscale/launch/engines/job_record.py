"""The record of a submitted job, one folder each, so that any later command finds it.

    <jobs>/digits-7f3a/
        job.json        the record
        ...             what was submitted: a script, a manifest
        logs/           the output of the workers, unless `log_dir` says otherwise

`<jobs>` is $TFSCALE_JOBS_DIR, else $XDG_STATE_HOME/tfscale/jobs, else ~/.local/state/tfscale/jobs.
On a cluster it has to be on a file system that all nodes share, as home folders usually are.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tfscale.files.output_files import write_whole
from tfscale.launch.engines.job_request import JobRequest

JOBS_VARIABLE = "TFSCALE_JOBS_DIR"
_FILE = "job.json"


@dataclass(frozen=True)
class JobRecord:
    """A submitted job.

    Attributes:
        id: The id that `tfscale launch` prints and `tfscale jobs` takes. Workers find it in
            TFSCALE_JOB_ID.
        engine: Name of the engine.
        folder: The job's own folder.
        log_dir: Folder with the output of the workers.
        command: What runs.
        tasks: Names of all processes.
        submitted: Time of the submission, ISO 8601 with the time zone.
        grace_seconds: Seconds between SIGTERM and SIGKILL.
        engine_id: The engine's own name of the job; empty until it is submitted.
        options: The engine's options that were given.
    """

    id: str
    engine: str
    folder: Path
    log_dir: Path
    command: tuple[str, ...]
    tasks: tuple[str, ...]
    submitted: str
    grace_seconds: float = 10.0
    engine_id: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def with_engine_id(self, engine_id: str) -> JobRecord:
        """Returns the record with the engine's own name of the job."""
        return dataclasses.replace(self, engine_id=engine_id)

    def save(self) -> None:
        """Writes the record into its folder, which exists.

        Raises:
            OSError: If it cannot be written.
        """
        values = {**dataclasses.asdict(self), "log_dir": str(self.log_dir)}
        del values["folder"]
        write_whole(self.folder / _FILE, json.dumps(values, indent=2) + "\n")


class NoSuchJob(LookupError):
    """Raised for an id without a record. The text is a sentence with the cure."""


def jobs_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Returns the folder of all jobs. It may not exist.

    Args:
        environ: The environment. None means that of this process.

    Example:
        >>> jobs_folder({"XDG_STATE_HOME": "/home/me/state"}).as_posix()
        '/home/me/state/tfscale/jobs'
    """
    found = os.environ if environ is None else environ
    if found.get(JOBS_VARIABLE):
        return Path(found[JOBS_VARIABLE]).absolute()
    if found.get("XDG_STATE_HOME"):
        return Path(found["XDG_STATE_HOME"]).absolute() / "tfscale" / "jobs"
    return Path.home() / ".local" / "state" / "tfscale" / "jobs"


def new_record(request: JobRequest, engine: str, jobs: Path) -> JobRecord:
    """Returns a record with an id of its own. Writes nothing.

    Args:
        request: What is asked for.
        engine: Name of the engine.
        jobs: The folder of all jobs.
    """
    identifier = f"{request.name}-{secrets.token_hex(3)}"
    folder = jobs / identifier
    return JobRecord(
        id=identifier,
        engine=engine,
        folder=folder,
        log_dir=request.log_dir.absolute() if request.log_dir else folder / "logs",
        command=request.command,
        tasks=request.tasks,
        submitted=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        grace_seconds=request.grace_seconds,
        options=dict(request.options),
    )


def find_record(identifier: str, jobs: Path) -> JobRecord:
    """Returns the record of a job.

    Args:
        identifier: Its id, or the beginning of the id of one job only.
        jobs: The folder of all jobs.

    Raises:
        NoSuchJob: If no job, or more than one, is meant.
    """
    ids = sorted(path.parent.name for path in jobs.glob(f"*/{_FILE}"))
    meant = [each for each in ids if each == identifier] or [
        each for each in ids if identifier and each.startswith(identifier)
    ]
    if len(meant) == 1:
        return _read(jobs / meant[0])
    if meant:
        raise NoSuchJob(
            f"{identifier!r} is the beginning of {', '.join(meant)}. Give one whole id."
        )
    raise NoSuchJob(
        f"no job {identifier!r} in {jobs}. `tfscale jobs list` shows all ids; another folder of "
        f"jobs is chosen by {JOBS_VARIABLE}."
    )


def all_records(jobs: Path, damaged: Callable[[NoSuchJob], object]) -> list[JobRecord]:
    """Returns all records, the newest last.

    Args:
        jobs: The folder of all jobs.
        damaged: Is called with the error of each record that cannot be read.
    """
    records = []
    for path in jobs.glob(f"*/{_FILE}"):
        try:
            records.append(_read(path.parent))
        except NoSuchJob as error:
            if path.exists():  # else its folder was removed since the list was made
                damaged(error)
    return sorted(records, key=lambda job: (job.submitted, job.id))


def _read(folder: Path) -> JobRecord:
    path = folder / _FILE
    try:
        values = json.loads(path.read_text("utf-8"))
        return JobRecord(
            folder=folder,
            log_dir=Path(values.pop("log_dir")),
            command=tuple(values.pop("command")),
            tasks=tuple(values.pop("tasks")),
            **values,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise NoSuchJob(
            f"{path} is not a record of a job ({type(error).__name__}: {error}). Remove its folder "
            "if the job is over."
        ) from error
