"""`tfscale jobs`: lists, watches and stops the jobs that `tfscale launch` submitted."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from strategies.extension import Deadline
from tfscale.cli.arguments import add_json_flag, count_or_zero, seconds
from tfscale.cli.errors import complain
from tfscale.files.output_files import write_whole
from tfscale.launch.engines import (
    EngineFailed,
    JobRecord,
    JobStatus,
    NoSuchJob,
    State,
    all_records,
    engine_named,
    find_record,
    jobs_folder,
)
from tfscale.launch.engines.in_background import InBackground

SUMMARY = "list, watch and stop the jobs that were submitted by tfscale launch"

_DESCRIPTION = """\
Shows and ends the jobs that `tfscale launch` gave to an engine or started with --detach. A job has
a folder with its record, what was submitted, and its logs. The folder of all jobs is
$TFSCALE_JOBS_DIR, else $XDG_STATE_HOME/tfscale/jobs, else ~/.local/state/tfscale/jobs; remove the
folder of a job to forget it. The beginning of an id is enough if it fits one job.
"""
_EPILOG = """\
examples:
  tfscale jobs list
  tfscale jobs status digits-7f3a21
  tfscale jobs logs digits-7f3a21 --follow
  tfscale jobs logs digits-7f3a21 --task=worker-1 --lines=50
  tfscale jobs stacks digits-7f3a21       print where every worker is, for a job that hangs
  tfscale jobs stop digits-7f3a21         SIGTERM, so that it can save; SIGKILL after its grace
  tfscale jobs wait digits-7f3a21         wait for its end, and exit with its status

exit status: 0 success, 1 the engine did not answer or the job could not be stopped in time, 2 wrong
usage or no such job; of `wait` the status of the job.
"""
_POLL_SECONDS = 0.5
_STACK_SECONDS = 10.0
_QUIET_SECONDS = 0.7
_STOP_SECONDS = 60.0
"""How long the end of a job may take beyond its grace."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what can be done with jobs."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)

    def add(name: str, summary: str, *, of_one: bool = True) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(
            name, help=summary, description=summary, allow_abbrev=False
        )
        if of_one:
            action.add_argument("id", metavar="ID", help="id of the job, or its beginning")
        return action

    add_json_flag(add("list", "show all jobs and where they stand", of_one=False))
    add_json_flag(add("status", "show where a job stands, and why"))
    logs = add("logs", "print the output of the workers")
    logs.add_argument(
        "--task",
        action="append",
        metavar="TASK",
        help="only of this one, such as worker-1; may be repeated",
    )
    logs.add_argument(
        "--lines", type=count_or_zero, metavar="N", help="only the last N of each (default: all)"
    )
    logs.add_argument("--follow", action="store_true", help="go on until the job is over")
    add("stacks", "print the stacks of the threads of every worker")
    add("stop", "end a job and wait until it has ended")
    wait = add("wait", "wait until a job is over, and exit with its status")
    wait.add_argument(
        "--timeout_seconds", type=seconds, metavar="S", help="wait at most S (default: no limit)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Does what is asked and returns the exit status."""
    try:
        return int(_ACTIONS[arguments.action](arguments))
    except NoSuchJob as error:
        complain("tfscale jobs", error)
        return 2
    except EngineFailed as error:
        complain("tfscale jobs", error)
        return 1


def status_of(job: JobRecord) -> JobStatus:
    """Returns where a job stands. What was the end once is kept: engines forget jobs.

    Raises:
        EngineFailed: If the engine does not answer.
    """
    ended = job.folder / "ended.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # none yet, or damaged
        values = json.loads(ended.read_text("utf-8"))
        return JobStatus(**{**values, "state": State(values["state"])})
    status = engine_named(job.engine).status(job)
    if status.state.is_over and status.state is not State.UNKNOWN:
        with contextlib.suppress(OSError):  # the answer is right on a full disk, too
            write_whole(ended, json.dumps(_status_values(status)) + "\n")
    return status


def _list(arguments: argparse.Namespace) -> int:
    rows = []
    damaged: list[NoSuchJob] = []
    for job in all_records(jobs_folder(), damaged.append):
        try:
            status = status_of(job)
        except EngineFailed as error:
            status = JobStatus(State.UNKNOWN, str(error))
        rows.append((job, status))
    if arguments.json:
        print(json.dumps([_values(job, status) for job, status in rows], indent=2))
    elif rows:
        _print_table(rows)
    else:
        print(f"no jobs in {jobs_folder()}", file=sys.stderr)
    for each in damaged:
        complain("tfscale jobs", each)
    return 1 if damaged else 0


def _status(arguments: argparse.Namespace) -> int:
    job = find_record(arguments.id, jobs_folder())
    values = _values(job, status_of(job))
    if arguments.json:
        print(json.dumps(values, indent=2))
        return 0
    width = max(map(len, values))
    for name, value in values.items():
        if value not in (None, "", {}):
            print(f"{name.replace('_', ' '):{width}}  {value}")
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    from tfscale.jobs.log_reading import Source, follow_logs, print_logs

    job = find_record(arguments.id, jobs_folder())
    engine = engine_named(job.engine)

    def sources() -> dict[str, Source]:
        found = dict(engine.logs(job))
        if arguments.task is None:
            return found
        wanted = set(arguments.task)
        return {name: at for name, at in found.items() if name.partition(".")[0] in wanted}

    known = {*job.tasks, *(name.partition(".")[0] for name in engine.logs(job))}
    unknown = [task for task in arguments.task or () if task not in known]
    if unknown:
        raise NoSuchJob(
            f"`--task` must be a task of {job.id}: {', '.join(sorted(known))}. Received: "
            f"{unknown[0]!r}."
        )
    if arguments.follow:
        follow_logs(sources, lambda: status_of(job).state.is_over)
    else:
        print_logs(sources(), arguments.lines)
    return 0


def _stacks(arguments: argparse.Namespace) -> int:
    from tfscale.jobs.log_reading import lines_from_now, write_lines

    job = find_record(arguments.id, jobs_folder())
    status = status_of(job)
    if status.state.is_over and status.state is not State.UNKNOWN:
        raise EngineFailed(f"{job.id} is over: {status.state.value}. {status.detail}")
    engine = engine_named(job.engine)
    sources = dict(engine.logs(job))
    if isinstance(engine, InBackground):
        for other in engine.other_launchers(job):
            logs = {name: at for name, at in engine.logs(other).items() if name != "launcher"}
            sources |= logs  # of other workers: each index is on one host only
    read = lines_from_now(sources)
    said = engine.ask_for_stacks(job)
    complain("tfscale jobs", f"{said}; their stacks are in the logs of {job.id}")
    files = [name for name, source in sources.items() if isinstance(source, Path)]
    silent = {name.partition(".")[0] for name in files} - {"launcher"}  # all starts of a task
    deadline = Deadline(_STACK_SECONDS)
    quiet = Deadline(_QUIET_SECONDS)
    while files and not deadline.is_over() and (silent or not quiet.is_over()):
        for task, lines in read().items():
            if lines:
                write_lines(task, lines)
                silent.discard(task.partition(".")[0])
                quiet = Deadline(_QUIET_SECONDS)
        time.sleep(0.05)
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    job = find_record(arguments.id, jobs_folder())
    status = status_of(job)
    if status.state.is_over:
        complain("tfscale jobs", f"{job.id} is over: {status.state.value}. {status.detail}")
        return 0
    engine_named(job.engine).stop(job)
    patience = job.grace_seconds + _STOP_SECONDS
    ended = _until_over(job, patience)
    if ended is None:
        raise EngineFailed(
            f"{job.id} has not ended within {patience:g} s; `tfscale jobs status {job.id}` shows "
            f"where it stands, and {job.engine} calls it {job.engine_id}."
        )
    complain("tfscale jobs", f"{job.id} has ended: {ended.state.value}. {ended.detail}")
    return 0


def _wait(arguments: argparse.Namespace) -> int:
    job = find_record(arguments.id, jobs_folder())
    ended = _until_over(job, arguments.timeout_seconds)
    if ended is None:
        raise EngineFailed(f"{job.id} is not over after {arguments.timeout_seconds:g} s.")
    complain("tfscale jobs", f"{job.id} has ended: {ended.state.value}. {ended.detail}")
    if ended.exit_status is not None:
        return ended.exit_status
    return 0 if ended.state is State.SUCCEEDED else 1


def _until_over(job: JobRecord, patience: float | None) -> JobStatus | None:
    """Returns how a job ended, or None if it has not within `patience` seconds."""
    deadline = None if patience is None else time.monotonic() + patience
    said = None
    while not (status := status_of(job)).state.is_over:
        if deadline is not None and time.monotonic() > deadline:
            return None
        if (status.state, status.detail) != said:
            said = (status.state, status.detail)
            complain("tfscale jobs", f"{job.id} is {status.state.value}. {status.detail}")
        time.sleep(_POLL_SECONDS)
    return status


def _status_values(status: JobStatus) -> dict[str, Any]:
    return {**dataclasses.asdict(status), "state": status.state.value}


def _values(job: JobRecord, status: JobStatus) -> dict[str, Any]:
    return {
        "id": job.id,
        **_status_values(status),
        "engine": job.engine,
        "engine_id": job.engine_id,
        "submitted": job.submitted,
        "tasks": len(job.tasks),
        "command": shlex.join(job.command),
        "folder": str(job.folder),
        "log_dir": str(job.log_dir),
    }


def _print_table(rows: list[tuple[JobRecord, JobStatus]]) -> None:
    table = [("id", "state", "engine", "tasks", "submitted", "command")]
    for job, status in rows:
        when = job.submitted[:16].replace("T", " ")
        command = shlex.join(job.command)
        table.append((job.id, status.state.value, job.engine, str(len(job.tasks)), when, command))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


_ACTIONS = {
    "list": _list,
    "status": _status,
    "logs": _logs,
    "stacks": _stacks,
    "stop": _stop,
    "wait": _wait,
}
