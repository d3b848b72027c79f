"""What a user asks of an engine: a command, its workers, and what each of them needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class JobRequest:
    """A job, in terms that all engines share.

    Attributes:
        command: Program and arguments. No shell is involved.
        name: Name of the job for people: lowercase letters, digits and hyphens, at most 40
            characters, a letter first. Kubernetes allows no others.
        num_workers: Workers; the most of them if their number may change. Positive.
        least_workers: The least if their number may change. None: it is fixed.
        num_ps: Parameter servers; with them the job has a chief too. At least 0.
        num_data_workers: Processes that compute the input of the workers. At least 0.
        gpus_per_worker: GPUs of each worker. None leaves it to the engine.
        cpus_per_worker: CPUs of each worker. None leaves it to the engine.
        memory: Bytes of each worker. None leaves it to the engine.
        time_limit: Seconds after which the job is ended. None: the engine's own limit.
        max_restarts: Restarts after failures. None never restarts.
        early_seconds: An end within so many seconds of the start is early: after three in a row
            there is no restart.
        grace_seconds: Seconds between SIGTERM and SIGKILL when the job is ended.
        log_dir: Folder for the output of the workers, as they see it. None: the job's own folder.
        folder: Working directory of the workers.
        environment: Variables that the workers get in addition.
        options: Settings that only this engine has; `Engine.options` lists them.

    Raises:
        ValueError: If `name` or the name of a variable is malformed.
    """

    command: tuple[str, ...]
    name: str
    num_workers: int
    _: KW_ONLY
    least_workers: int | None = None
    num_ps: int = 0
    num_data_workers: int = 0
    gpus_per_worker: int | None = None
    cpus_per_worker: int | None = None
    memory: int | None = None
    time_limit: float | None = None
    max_restarts: int | None = None
    early_seconds: float = 20.0
    grace_seconds: float = 10.0
    log_dir: Path | None = None
    folder: Path = field(default_factory=Path.cwd)
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                "`job_name` must be at most 40 lowercase letters, digits and hyphens, beginning "
                f"with a letter and not ending with a hyphen. Received: {self.name!r}. "
                "Example: digits-2."
            )
        for variable in self.environment:
            if not _VARIABLE.fullmatch(variable):
                raise ValueError(
                    "`env` must be NAME=VALUE with a name of letters, digits and underscores. "
                    f"Received: {variable!r}. Example: DATA_DIR=/shared/digits."
                )

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of all processes: "chief", "worker-0", "ps-0", "data_worker-0" and so on.

        Example:
            >>> JobRequest(("true",), "digits", num_workers=2, num_ps=1).tasks
            ('chief', 'worker-0', 'worker-1', 'ps-0')
        """
        return task_names(self.num_workers, self.num_ps, self.num_data_workers)


def task_names(num_workers: int, num_ps: int, num_data_workers: int = 0) -> tuple[str, ...]:
    """Returns the names of all processes of a job; see `JobRequest.tasks`."""
    counts = {"worker": num_workers, "ps": num_ps, "data_worker": num_data_workers}
    chief = ("chief",) if num_ps else ()
    return chief + tuple(f"{k}-{i}" for k, count in counts.items() for i in range(count))


def refuse_all_but_workers(request: JobRequest, engine: str) -> None:
    """Refuses parameter servers and data workers, for an engine that starts workers only.

    Raises:
        ValueError: If there are any.
    """
    for flag in ("num_ps", "num_data_workers"):
        value = getattr(request, flag)
        if value:
            raise ValueError(
                f"`--{flag}` must be 0 with --engine={engine}, whose processes are all workers. "
                f"Received: --{flag}={value}. Use --engine=local, slurm or kubernetes."
            )


def default_name(command: tuple[str, ...]) -> str:
    """Returns a name for a job from its command.

    Example:
        >>> default_name(("python", "-m", "recipes.image_classification", "--seed=1"))
        'image-classification'
        >>> default_name(("python", "src/train.py")), default_name(("./42",))
        ('train', 'job')
    """
    words = [word for word in command if not word.startswith("-")]
    programs = [word for word in words if not re.fullmatch(r"(.*/)?python[0-9.]*", word)]
    word = (programs or words or ["job"])[0].rpartition("/")[2].removesuffix(".py")
    word = re.sub(r"[^a-z0-9]+", "-", word.rpartition(".")[2].lower()).strip("-")[:32].strip("-")
    return word if _NAME.fullmatch(word) else "job"
