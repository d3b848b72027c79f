"""The part of a job that runs on this host: checks its arguments and opens what it needs."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from strategies.extension import number, whole_number
from tfscale.files import output_files
from tfscale.launch.attempt import Job
from tfscale.launch.attempts import ended_after
from tfscale.launch.events import Events, signals_as_events
from tfscale.launch.hosts import Hosts
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.output import SharedOutput
from tfscale.launch.restarts import RestartPolicy
from tfscale.launch.shares import Shares

_MOST_TASKS = 1024  # Each has a port, two pipes and a thread.


@contextlib.contextmanager
def host_job(
    command: Sequence[str],
    *,
    name: str,
    num_workers: int,
    num_ps: int = 0,
    num_data_workers: int = 0,
    hosts: Hosts | None = None,
    policy: RestartPolicy,
    gpus_per_worker: int | None,
    cpus_per_worker: int | None,
    time_limit: float | None,
    grace_seconds: float,
    start_seconds: float | None,
    log_dir: str | os.PathLike[str] | None,
    environment: Mapping[str, str] | None,
    output: BinaryIO | None,
) -> Iterator[Job]:
    """Opens what a job needs on this host, and ends all of it with the context.

    Within the context signals and the time limit are events of the job. The arguments are those of
    `launch_local_workers`, which were checked by `check_job`; `name` identifies the job to its
    workers, and `policy` decides about restarts.

    Raises:
        ValueError: If an argument is out of range.
        OSError: If standard output is closed or the system provides no folder.
    """
    shares = Shares.of_host(num_workers, gpus_per_worker, cpus_per_worker)
    if time_limit is not None:
        cure = "Omit it for no limit."
        number("time_limit", time_limit, "positive and finite", lambda limit: limit > 0, cure=cure)
    log_folder = None if log_dir is None else _writable_folder(log_dir)
    events: Events = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        # Entered first and left last, so that a signal ends the job in order from here on. The
        # guard is left after the workers, so that it kills them if anything below raises.
        stack.enter_context(signals_as_events(events))
        shared_output = SharedOutput(output)
        limit = stack.enter_context(ended_after(time_limit, events))
        job = Job(
            name=name,
            command=command,
            num_workers=num_workers,
            num_ps=num_ps,
            num_data_workers=num_data_workers,
            policy=policy,
            hosts=hosts,
            grace_seconds=grace_seconds,
            start_seconds=start_seconds,
            log_dir=log_folder,
            exit_reason_dir=log_folder
            or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfscale-"))),
            shares=shares,
            environment=dict(environment or {}),
            output=shared_output,
            events=events,
            limit=limit,
            guard=stack.enter_context(OrphanGuard()),
        )
        yield job


def refuse_too_many(name: str, count: int) -> None:
    """Refuses more tasks of a kind than one host can have.

    Raises:
        ValueError: If there are more.
    """
    if count > _MOST_TASKS:
        raise ValueError(
            f"`{name}` must be at most {_MOST_TASKS} on one host. Received: a number of "
            f"{len(str(count)) if count < 10**18 else 'over 18'} digits. Start a worker for each "
            "device, not for each core."
        )


def _writable_folder(log_dir: str | os.PathLike[str]) -> Path:
    try:
        folder = Path(log_dir)
        if not os.fspath(log_dir):
            raise ValueError("it is empty")
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            "`log_dir` must be a folder that this process can write to. Received: "
            f"log_dir={str(log_dir)!r} ({output_files.reason(error)}). Choose another folder."
        ) from error
    return folder


def check_job(
    command: Sequence[str], num_workers: int, grace_seconds: float, start_seconds: float | None
) -> None:
    """Checks arguments that jobs of one and of several hosts share.

    Raises:
        ValueError: If one is out of range.
        FileNotFoundError: If the program does not exist or is not executable.
        NotImplementedError: On Windows.
    """
    if sys.platform == "win32":
        raise NotImplementedError(
            "`tfscale launch` needs process groups and POSIX signals, which Windows does not have. "
            "Run it in WSL 2, or start the workers yourself, each with its own TF_CONFIG."
        )
    is_sequence = isinstance(command, Sequence) and not isinstance(command, (str, bytes))
    if not is_sequence or not command or not all(isinstance(part, str) for part in command):
        raise ValueError(
            "`command` must be a sequence of strings that begins with the program. "
            f"Received: command={command!r}. Example: [sys.executable, 'train.py']."
        )
    cure = "Pass 2 or more to train on several workers."
    refuse_too_many("num_workers", whole_number("num_workers", num_workers, cure=cure))
    rule, cure = "finite and at least 0", "Pass 0 to kill at once."
    number("grace_seconds", grace_seconds, rule, lambda seconds: seconds >= 0, cure=cure)
    if start_seconds is not None:
        rule, cure = "positive and finite", "Omit it for the default of 300 s."
        number("start_seconds", start_seconds, rule, lambda seconds: seconds > 0, cure=cure)
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(
            "`command` must begin with a program that can be executed. Received: "
            f"{command[0]!r}, {_why_not_executed(command[0])}"
        )


def _why_not_executed(program: str) -> str:
    """Returns why a program that `shutil.which` does not find cannot be executed, and the cure."""
    if shutil.which(program, os.F_OK, path=os.curdir) is None:
        why = "is neither a file nor a name on PATH"
        cure = "Pass the path of an executable file, or a name that is on PATH."
    else:
        is_executable = os.access(program, os.X_OK)
        why = "is not on PATH" if is_executable else "exists but is not executable"
        cure = f"Pass its path: ./{program}." if is_executable else f"Run chmod +x {program} first."
        if program.endswith(".py"):
            cure = f"Run it with Python: python {program}."
    return f"which {why}. {cure}"
