"""A job of this host in the background: `tfscale launch --detach`.

    tfscale launch --detach --num_workers=2 -- python train.py     # prints digits-7f3a21
    tfscale jobs logs digits-7f3a21 --follow

A process of its own session runs what the launcher would have run in the foreground. Its folder
has run.json (its command line), launcher.log (what the launcher says), process.json (the process),
and at the end exit.json (its status).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfscale.launch.engines.engine import JobStatus, State, Submission
from tfscale.launch.engines.engine_tools import EngineFailed
from tfscale.launch.engines.job_record import JobRecord, all_records
from tfscale.launch.engines.job_request import JobRequest
from tfscale.launch.engines.workers_elsewhere import workers_elsewhere
from tfscale.launch.outcome import PREEMPTED_STATUS, signal_name
from tfscale.launch.process_tree import is_stopped
from tfscale.launch.task_files import task_logs

RUN_FILE = "run.json"
PROCESS_FILE = "process.json"
EXIT_FILE = "exit.json"
LAUNCHER_LOG = "launcher.log"
_PROGRAM = "tfscale.launch.engines.background_process"
_UNITS = {"memory": "B", "time_limit": "s"}
_NOT_PASSED_ON = ("name", "version", "config", "command")
"""What argparse adds; and `config`, because what the file says is in the other flags."""


_KINDS: Mapping[str, Mapping[str, type]] = {
    EXIT_FILE: {"status": int, "said": str},
    PROCESS_FILE: {"pid": int, "host": str, "start": str},
}
_DAMAGED = "`ps` shows whether the job runs; remove its folder once it is over."


class InBackground:
    """What engines share that run on this host: they have processes instead of a scheduler.

    Attributes:
        flags: The flags of `tfscale launch` by name, which the background process runs with.
    """

    name = ""
    options: Mapping[str, str] = {}

    def __init__(self, flags: Mapping[str, Any] | None = None) -> None:
        self.flags = dict(flags or {})

    def check(self, request: JobRequest) -> None:
        """Refuses what processes of a host cannot have.

        Raises:
            ValueError: If there is such a thing.
        """
        if request.memory is not None:
            raise ValueError(
                f"`--memory` must be left out with --engine={self.name}, whose workers share the "
                f"memory of this host. Received: {request.memory} bytes. To limit all of them: "
                "systemd-run --scope -p MemoryMax=32G tfscale launch ..."
            )

    def submission(self, request: JobRequest, job: JobRecord) -> Submission:
        """Returns the command line, and the command that starts it in the background."""
        self.check(request)
        flags = {**self.flags, "detach": False, "dry_run": False, "log_dir": str(job.log_dir)}
        launch = ["launch", *_as_arguments(flags), "--", *request.command]
        values = {"folder": str(request.folder), "job_id": job.id, "tfscale": launch}
        text = json.dumps(values, indent=2) + "\n"
        return Submission({RUN_FILE: text}, ((sys.executable, "-m", _PROGRAM, str(job.folder)),))

    def engine_id(self, output: str) -> str:
        """Returns the process id that the command printed."""
        return output.strip()

    def status(self, job: JobRecord) -> JobStatus:
        """Reads how the background process ended, or whether it runs."""
        ended = _values(job.folder / EXIT_FILE)
        if ended:
            return _of_exit(int(ended["status"]), str(ended["said"]))
        process = _values(job.folder / PROCESS_FILE)
        if not process:
            said = f"{job.folder / PROCESS_FILE} is missing, which names its process."
            return JobStatus(State.UNKNOWN, said)
        if process["host"] != socket.gethostname():
            return JobStatus(State.UNKNOWN, f"It was started on host {process['host']}; ask there.")
        pid = int(process["pid"])
        if start_of(pid) == process["start"]:
            waits = f" It is stopped (SIGSTOP); kill -CONT {pid} lets it go on."
            said = f"Process {pid} of this host.{waits if is_stopped(pid) else ''}"
            return JobStatus(State.RUNNING, said)
        if ended := _values(job.folder / EXIT_FILE):  # it has ended since the first look
            return _of_exit(int(ended["status"]), str(ended["said"]))
        said = f"Its launcher has ended without a status, killed or by a crash: {LAUNCHER_LOG}."
        return JobStatus(State.FAILED, said)

    def logs(self, job: JobRecord) -> Mapping[str, Path | tuple[str, ...]]:
        """Returns the log files of the tasks, and what the launcher said."""
        return {"launcher": job.folder / LAUNCHER_LOG} | task_logs(job.log_dir)

    def stop(self, job: JobRecord) -> None:
        """Sends SIGTERM to the launcher, which ends the workers.

        One that is stopped handles no signal, so it gets SIGCONT too.
        """
        state = self.status(job).state
        if state is State.UNKNOWN:
            raise EngineFailed(
                f"{job.id} does not run on this host. `tfscale jobs status` has more."
            )
        if state is State.RUNNING:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                pid = int(_values(job.folder / PROCESS_FILE)["pid"])
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGCONT)

    def ask_for_stacks(self, job: JobRecord) -> str:
        """Sends SIGUSR2 to the workers that handle it, those of other launchers here too."""
        from tfscale.launch.engines.stack_request import ask, members_of  # here: a program too

        running = [job, *self.other_launchers(job)]
        launchers = [_values(each.folder / PROCESS_FILE).get("pid") for each in running]
        members = members_of(job.id, [pid for pid in launchers if pid is not None])
        asked = ask(members)
        if not asked:
            raise EngineFailed(
                f"none of the {len(members)} processes of {job.id} on this host can be asked: a "
                "program answers once it has built a strategy of tfscale. `py-spy dump --pid` "
                f"shows others.{_not_here(members)}"
            )
        also = ", ".join(each.id for each in running[1:])
        return (
            f"asked {asked} processes of this host{f', also of {also}' if also else ''}"
            f"{_not_here(members)}"
        )

    def other_launchers(self, job: JobRecord) -> list[JobRecord]:
        """Returns the records of the other launchers of an elastic job that run on this host.

        Launchers of one job have the same rendezvous.
        """
        meeting = _rendezvous_of(job)
        if meeting is None:
            return []
        return [
            other
            for other in all_records(job.folder.parent, lambda _: None)
            if other.engine == job.engine
            and other.id != job.id
            and _rendezvous_of(other) == meeting
            and self.status(other).state is State.RUNNING
        ]


def _rendezvous_of(job: JobRecord) -> str | None:
    """Returns the value of `--rendezvous` in the job's command line, or None."""
    try:
        words = json.loads((job.folder / RUN_FILE).read_text("utf-8"))["tfscale"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    flag = "--rendezvous="
    return next((word[len(flag) :] for word in words if str(word).startswith(flag)), None)


def _not_here(members: Sequence[int]) -> str:
    """Returns a sentence about the workers of the job on other hosts, or ""."""
    elsewhere = workers_elsewhere(members)
    if not elsewhere:
        return ""
    listed = "; ".join(f"{', '.join(tasks)} on {host}" for host, tasks in elsewhere.items())
    return f"; not reached: {listed}. Run `tfscale jobs stacks` on each of these hosts"


def _as_arguments(flags: Mapping[str, Any]) -> list[str]:
    """Returns parsed flags as a command line, without `command` and what argparse adds."""
    arguments = []
    for name, value in flags.items():
        if value is None or value is False or name in _NOT_PASSED_ON:
            continue
        if value is True:
            arguments.append(f"--{name}")
            continue
        for each in value if isinstance(value, list) else [value]:
            arguments.append(f"--{name}={each}{_UNITS.get(name, '')}")
    return arguments


def start_of(pid: int) -> str:
    """Returns when a process started, as the system counts it; empty if it has ended.

    A process id alone may belong to a later process.
    """
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else numbers[18]  # it has ended, and its parent does not look
    except (FileNotFoundError, ProcessLookupError):  # the second: it ended while it was read
        if sys.platform == "linux":
            return ""
    try:  # no /proc: an id is all there is
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"


def _of_exit(status: int, said: str) -> JobStatus:
    if status == 0:
        return JobStatus(State.SUCCEEDED, said, status)
    if status == PREEMPTED_STATUS:
        return JobStatus(State.STOPPED, said or "Preempted, all saved.", status)
    if status - 128 in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        said = said or f"{signal_name(status - 128)} ended it."
        return JobStatus(State.STOPPED, said, status)
    return JobStatus(State.FAILED, said, status)


def _values(path: Path) -> dict[str, Any]:
    """Returns what a file of the job says; nothing if there is none.

    Raises:
        EngineFailed: If it is damaged.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EngineFailed(f"{path} cannot be read: {error}. {_DAMAGED}") from error
    kinds = _KINDS[path.name]
    if not isinstance(found, dict) or not all(
        isinstance(found.get(name), kind) for name, kind in kinds.items()
    ):
        raise EngineFailed(f"{path} is damaged: {str(found)[:60]!r}. {_DAMAGED}")
    return found
