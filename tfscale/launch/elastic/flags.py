"""The flags of `tfscale launch` for jobs whose number of workers may change."""

from __future__ import annotations

import argparse
import os
from typing import NamedTuple

from strategies.extension import COUNT, JOB_VARIABLE
from tfscale.cli.arguments import add_switch, count, seconds, seconds_or_zero
from tfscale.cli.errors import complain
from tfscale.launch.engines import JobRequest

_DEFAULT_MAX_RESTARTS = 3
_OWN = ("workers_per_host", "host_address", "settle_seconds", "join_seconds")
_ELASTIC_ENGINES = ("slurm",)
"""They need no rendezvous: the scheduler knows which hosts a job has."""
_OTHERS = ("hosts", "num_ps", "num_data_workers")

DESCRIPTION = """\
With --num_workers=MIN:MAX --rendezvous=HOST:PORT run one launcher on every host, with the same
flags. The launcher on HOST runs the rendezvous, the others connect to it. The job starts with MAX
workers, or with at least MIN if no other host joins for --settle_seconds. If a host is lost, the
job restarts from its last checkpoint with the others. If one joins or returns, all workers get
SIGTERM, so that tfscale.callbacks.Checkpoint saves and exits with status 42, and the job restarts
with it. A signal to a launcher means that its host leaves; to that of HOST, that the job ends.
--max_restarts counts failures and lost hosts only (default: 3). Fewer workers have larger parts
of the same global batch: a start with fewer than before needs room for that on every host.
"""


class WorkerRange(NamedTuple):
    """Numbers of workers that a job may train with."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}:{self.most}"


def count_or_range(text: str) -> int | WorkerRange:
    """Reads N or MIN:MAX.

    Raises:
        argparse.ArgumentTypeError: If `text` is neither.
    """
    if ":" not in text:
        return count(text)
    parts = text.split(":")
    numbers = [number for part in parts if (number := COUNT.value(part)) is not None]
    if len(parts) != 2 or len(numbers) != 2 or numbers[0] > numbers[1]:
        raise argparse.ArgumentTypeError(
            "must be N or MIN:MAX, positive integers with MIN at most MAX. "
            f"Received: {text!r}. Example: 2:4"
        )
    return WorkerRange(*numbers)


def add_elastic_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    group = parser.add_argument_group("a number of workers that may change")
    group.add_argument(
        "--rendezvous",
        metavar="HOST:PORT",
        help="where the launchers of all hosts meet; one of them must run on HOST, and the job "
        "ends with it",
    )
    group.add_argument(
        "--workers_per_host",
        type=count,
        metavar="N",
        help="workers of each launcher; MIN and MAX of --num_workers=MIN:MAX are multiples of it "
        "(default: 1)",
    )
    group.add_argument(
        "--host_address",
        metavar="HOST",
        help="name or address under which the other hosts reach this one's workers (default: that "
        "of the connection to the rendezvous)",
    )
    group.add_argument(
        "--settle_seconds",
        type=seconds_or_zero,
        metavar="S",
        help="seconds without another host that joins, before a start with fewer than MAX workers, "
        "or a restart with hosts that have joined (default: 5)",
    )
    group.add_argument(
        "--join_seconds",
        type=seconds,
        metavar="S",
        help="seconds to wait for MIN workers, and for the rendezvous (default: 600)",
    )
    add_switch(
        group,
        "--skip_memory_check",
        "start with fewer workers than before even if a host may have too little memory",
    )


def most_workers(given: int | WorkerRange | None) -> int:
    """Returns the most workers that a job may have, from the value of --num_workers."""
    return given.most if isinstance(given, WorkerRange) else given or 1


def least_workers(given: int | WorkerRange | None) -> int | None:
    """Returns the least workers that a job may have, or None if their number is fixed."""
    return given.least if isinstance(given, WorkerRange) else None


def refuse_unfit_flags(arguments: argparse.Namespace) -> None:
    """Checks that flags which need --rendezvous have it, and that it stands with no other way.

    Raises:
        ValueError: If one does not.
    """
    if arguments.rendezvous is None:
        given = [f"--{name}" for name in _OWN if getattr(arguments, name) is not None]
        given += ["--skip_memory_check"] * arguments.skip_memory_check
        is_range = isinstance(arguments.num_workers, WorkerRange)
        if is_range and arguments.engine not in ("local", *_ELASTIC_ENGINES):
            raise ValueError(
                f"`--num_workers` must be one number with --engine={arguments.engine}. Received: "
                f"--num_workers={arguments.num_workers}. A number that may change needs "
                "--engine=slurm, or --rendezvous=HOST:PORT on hosts of your own."
            )
        if is_range and arguments.engine not in _ELASTIC_ENGINES:
            given.insert(0, f"--num_workers={arguments.num_workers}")
        if given:
            raise ValueError(
                f"{given[0]} needs --rendezvous=HOST:PORT. Run `tfscale launch` with it on every "
                "host, or give one number of workers."
            )
        return
    for name in _OTHERS:
        if getattr(arguments, name):
            raise ValueError(
                f"--{name} cannot be used with --rendezvous: the number of workers may change "
                "only in synchronous training, with hosts that find each other. Leave out "
                f"--rendezvous, or --{name}."
            )
    if arguments.num_workers is None:
        raise ValueError("--rendezvous needs --num_workers=MIN:MAX, or N for MIN = MAX = N.")


def run_elastic(arguments: argparse.Namespace, request: JobRequest) -> int:
    """Runs this host's part of the job and returns its exit status.

    Raises:
        ValueError: If a flag is out of range, or the launcher is refused by the rendezvous.
        OSError: If the system provides no process, pipe, port or log file.
    """
    # Here: the modules behind it are not needed to print the help.
    from tfscale.launch.elastic.connection import RendezvousLost
    from tfscale.launch.elastic.elastic_workers import launch_elastic_workers
    from tfscale.launch.elastic.rendezvous import Rendezvous

    workers = arguments.num_workers
    if not isinstance(workers, WorkerRange):
        workers = WorkerRange(workers, workers)
    given = {name: getattr(arguments, name) for name in (*_OWN, "job_name")}
    rendezvous = Rendezvous(
        arguments.rendezvous,
        *workers,
        **{name: value for name, value in given.items() if value is not None},
        checks_memory=not arguments.skip_memory_check,
    )
    restarts = request.max_restarts
    try:
        outcome = launch_elastic_workers(
            request.command,
            rendezvous,
            gpus_per_worker=request.gpus_per_worker,
            cpus_per_worker=request.cpus_per_worker,
            time_limit=request.time_limit,
            grace_seconds=request.grace_seconds,
            max_restarts=_DEFAULT_MAX_RESTARTS if restarts is None else restarts,
            early_seconds=request.early_seconds,
            start_seconds=arguments.start_seconds,
            log_dir=request.log_dir,
            environment=request.environment,
            job_id=os.environ.get(JOB_VARIABLE),  # of a job in the background
        )
    except RendezvousLost as error:
        complain("tfscale launch", error)
        return 1
    if outcome.status != 0:
        complain("tfscale launch", f"{outcome}.")
    return outcome.status
