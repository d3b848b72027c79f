"""What an engine is: something that runs the workers of a job, and tells about them.

    engine = engine_named("slurm")
    job = submit(engine, request)            # a JobRecord, kept in a file
    engine.status(job).state                 # State.RUNNING

An engine turns a request into a `Submission`, files and commands. `--dry_run` prints exactly these;
without it they are written and run. So what is printed is what is submitted.
"""

from __future__ import annotations

import enum
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tfscale.launch.engines.job_record import JobRecord
from tfscale.launch.engines.job_request import JobRequest


class State(enum.Enum):
    """Where a job stands. The value is shown to people and programs."""

    PENDING = "pending"
    RUNNING = "running"
    REQUEUED = "requeued"  # ended by a preemption or a failure, and will run again
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"  # by its user, or by a time limit
    UNKNOWN = "unknown"  # the engine no longer knows the job

    @property
    def is_over(self) -> bool:
        """Whether the job will not run again."""
        return self not in (State.PENDING, State.RUNNING, State.REQUEUED)


@dataclass(frozen=True)
class JobStatus:
    """The state of a job and what the engine says about it.

    Attributes:
        state: The state.
        detail: One sentence: why it is pending, who failed and how, on which hosts it runs.
        exit_status: As a shell would show it. None while it runs, or if the engine does not know.
        restarts: Starts after the first, or None if the engine does not count them.
    """

    state: State
    detail: str = ""
    exit_status: int | None = None
    restarts: int | None = None


@dataclass(frozen=True)
class Submission:
    """What is handed to an engine.

    Attributes:
        files: Text of each file, by its name in the job's folder.
        commands: Commands to run in order, in the job's folder. The standard output of the last one
            names the job; see `Engine.engine_id`.
        undo: Commands that remove what may exist if one of them fails. They must do no harm if
            nothing does.
        writes_logs_here: Whether `JobRecord.log_dir` is a folder that this host has too.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[tuple[str, ...], ...] = ()
    undo: tuple[tuple[str, ...], ...] = ()
    writes_logs_here: bool = True

    def __str__(self) -> str:
        parts = [f"# {name}\n{text.rstrip()}\n" for name, text in self.files.items()]
        parts += [shlex.join(command) for command in self.commands]
        return "\n".join(parts)


class Engine(Protocol):
    """An engine.

    Attributes:
        name: The value of `--engine`.
        options: What `--option NAME=VALUE` and the table `[NAME]` of a job file may set: name, and
            one line of help.
    """

    name: str
    options: Mapping[str, str]

    def submission(self, request: JobRequest, job: JobRecord) -> Submission:
        """Returns what to submit. Reads nothing from the engine and changes nothing.

        Raises:
            ValueError: If the engine cannot do what is asked. Names the flag, the value, the cure.
        """

    def engine_id(self, output: str) -> str:
        """Returns the engine's own name of the job, from what the last command printed."""

    def status(self, job: JobRecord) -> JobStatus:
        """Asks the engine where a job stands.

        Raises:
            EngineFailed: If the engine does not answer.
        """

    def logs(self, job: JobRecord) -> Mapping[str, Path | tuple[str, ...]]:
        """Returns by task where its output is: a file, or a command that prints it.

        A command takes `--follow` as its last argument if it can go on printing.
        """

    def stop(self, job: JobRecord) -> None:
        """Ends a job: SIGTERM, then SIGKILL after the job's grace.

        Raises:
            EngineFailed: If the engine does not answer or refuses.
        """

    def ask_for_stacks(self, job: JobRecord) -> str:
        """Makes every worker write the stacks of its threads to its output.

        Returns:
            One sentence: how many processes were asked.

        Raises:
            EngineFailed: If the engine does not answer or no process can be asked.
        """
