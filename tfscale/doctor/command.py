"""`tfscale doctor`: examines an installation, a host and a cluster, and lists faults and cures."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from pathlib import Path
from typing import Any

from tfscale.cli import POSITIVE
from tfscale.cli.arguments import add_json_flag, number_type, seconds
from tfscale.cli.errors import complain
from tfscale.doctor.finding import EXAMINATIONS

SUMMARY = "check versions, devices, this host and the cluster, and list faults with their cures"

_THRESHOLDS = {  # of `health_findings.Thresholds`: metavar and help
    "min_matmul_gflops": ("G", "the least speed of each device, in 10^9 operations a second"),
    "min_disk_mb_per_s": ("MB", "the least speed of writing and reading, in 10^6 bytes/s"),
    "max_all_reduce_ms": ("MS", "the longest all-reduce of 1 MiB, in milliseconds"),
}
_DESCRIPTION = """\
Examines, and says what to do about each fault:

  releases      TensorFlow, Keras, devices, and every defect of Keras that tfscale fixes
  wheels        packages that overwrite each other, are damaged, or do not go together
  cluster       TF_CONFIG or the scheduler's variables, names, proxies, the port of this task
  host          processors against the quota, memory, control groups, open files, processes
  storage       room, inodes, rights; of --shared_dir also locks and renames
  accelerators  GPUs, their driver, CUDA and NCCL wheels, /dev/shm, TPUs

A problem would make a job fail or lose much of its speed: the exit status is 1. A remark may be
right as it is. Without --health_check nothing is computed, and nothing is changed but small files
that are written and removed.

A fix is "ready" if the installed Keras is one that it was written for. Otherwise it is "refused",
with the features that need it, so that no model is trained incorrectly. Rows are named S (silently
wrong), H (hangs) and C (crashes). --json adds to each row the replaced symbols of Keras, the test,
public reports, and when the fix can be removed, and lists the private symbols in use.

With --peers run it in every task of a cluster at the same time. Each task listens at its own
address, tries all others, and shows who reaches whom, round trips and clocks, whether versions are
equal, and with --shared_dir whether tasks see each other's files, keep locks and replace files
whole. It is not authenticated: keep a cluster in a closed network.

--health_check computes for a few seconds: products of matrices on each device, copies in memory, a
file on the disk, and in a cluster an all-reduce. Below half of the median of all tasks a task is a
problem.
"""
_EPILOG = """\
examples:
  tfscale doctor                                       a report to read, or for an issue
  tfscale doctor --only=host,storage --dirs=/scratch   a few examinations; no TensorFlow
  tfscale launch --num_workers=2 -- tfscale doctor --peers
  srun tfscale doctor --peers --shared_dir=/home/me/runs
  srun tfscale doctor --health_check --min_matmul_gflops=50 --max_all_reduce_ms=20
  tfscale doctor --json                                for a program, with more about each fix

exit status: 0 no problems, 1 at least one problem is listed, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale doctor`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_json_flag(parser)
    parser.add_argument(
        "--only",
        type=_some_of,
        action="extend",
        default=[],
        metavar="NAME,...",
        help=f"examinations to make (default: all): {', '.join(EXAMINATIONS)}",
    )
    parser.add_argument(
        "--dirs",
        type=_folders,
        action="extend",
        default=[],
        metavar="DIR,...",
        help="folders the job writes to; that of temporary files and the current one are always "
        "examined",
    )
    together = parser.add_argument_group("in every task of a cluster")
    together.add_argument(
        "--peers",
        action="store_true",
        help="try every other task of the cluster, and compare clocks and versions",
    )
    together.add_argument(
        "--peers_seconds",
        type=seconds,
        default=30.0,
        metavar="S",
        help="seconds to wait for the other tasks (default: 30)",
    )
    together.add_argument(
        "--shared_dir",
        type=Path,
        metavar="DIR",
        help="a folder that all tasks share: with --peers its files, locks and renames are "
        "compared between tasks",
    )
    health = parser.add_argument_group("before a job")
    health.add_argument(
        "--health_check",
        action="store_true",
        help="compute for a few seconds; in a cluster this implies --peers",
    )
    positive = number_type(POSITIVE)
    for name, (unit, text) in _THRESHOLDS.items():
        health.add_argument(f"--{name}", type=positive, metavar=unit, help=text)


def run(arguments: argparse.Namespace) -> int:
    """Prints the report. Returns 1 if it lists a problem, else 0."""
    from tfscale.cli.progress import progress
    from tfscale.doctor.health_findings import Thresholds
    from tfscale.doctor.job import Task, examine_task
    from tfscale.doctor.report import as_text

    given = {name: getattr(arguments, name) for name in _THRESHOLDS}
    unused = [name for name, value in given.items() if value is not None]
    if unused and not arguments.health_check:
        complain("tfscale doctor", f"--{unused[0]} needs --health_check. Add it.")
        return 2
    # Keeps TensorFlow's start-up messages out of the report.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    task = Task(
        examinations=arguments.only or EXAMINATIONS,
        folders=arguments.dirs,
        shared_dir=arguments.shared_dir,
        peers=arguments.peers,
        seconds=arguments.peers_seconds,
        thresholds=Thresholds(**given) if arguments.health_check else None,
    )

    def show(report: dict[str, Any]) -> None:
        print(json.dumps(report, indent=2) if arguments.json else as_text(report), flush=True)

    # A launcher joins both outputs of a worker, and then JSON could not be read.
    is_shown = (arguments.peers or arguments.health_check) and not arguments.json
    with progress("tfscale doctor") if is_shown else contextlib.nullcontext(_silent) as say:
        report = examine_task(task, say, show)
    return 1 if report["problems"] else 0


def _silent(line: str) -> None:
    del line


def _some_of(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in EXAMINATIONS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"must be some of {', '.join(EXAMINATIONS)}. Received: {unknown[0]!r}. Example: "
            "host,storage"
        )
    return names


def _folders(text: str) -> tuple[Path, ...]:
    names = text.split(",")
    if "" in names:
        raise argparse.ArgumentTypeError(
            f"must be folders with commas between them. Received: {text!r}. Example: /scratch,/data"
        )
    return tuple(map(Path, names))
