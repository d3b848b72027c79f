"""The workers of a training job that run on this host."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from strategies.extension import number, whole_number
from tfscale.files import output_files
from tfscale.launch.attempt import Job, run_attempt
from tfscale.launch.events import Events, SignalReceived, next_event, signals_as_events
from tfscale.launch.hosts import Hosts
from tfscale.launch.orphan_guard import OrphanGuard
from tfscale.launch.outcome import Outcome, WorkerFailure, signal_name
from tfscale.launch.output import SharedOutput, say
from tfscale.launch.restarts import NoRestart, Restart, RestartPolicy

_FIRST_WAIT_SECONDS = 1.0
# Of several hosts each sees the failure for itself; the last by TensorFlow's heartbeat, which takes
# up to 20 s (strategies.coordination.heartbeats). A worker that came back before would join peers
# that are about to end.
_FIRST_WAIT_SECONDS_OF_HOSTS = 25.0

_MOST_TASKS = 1024  # Each has a port, two pipes and a thread.


def launch_local_workers(
    command: Sequence[str],
    num_workers: int,
    *,
    num_ps: int = 0,
    hosts: Hosts | None = None,
    grace_seconds: float = 10.0,
    max_restarts: int | None = None,
    early_seconds: float = 20.0,
    start_seconds: float | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    output: BinaryIO | None = None,
) -> Outcome:
    r"""Runs a command as N workers of one TensorFlow cluster on this host, until all have ended.

    Worker i gets this process's environment with TF_CONFIG set to a cluster of N workers on
    127.0.0.1 whose task i it is, on ports that were free, with PYTHONUNBUFFERED=1, with
    TFSCALE_RESTART, which counts the restarts so far from 0, and with TFSCALE_JOB_ID, a random name
    that stays the same over restarts. A single worker gets a TF_CONFIG too,
    of one worker, so that it takes the same path as several. Input is empty; standard output and
    error come out together, each line behind `[worker i] `.

    The first worker to fail ends the job: its peers would wait for it, or fail in confusing ways.
    Every process group gets SIGTERM and, `grace_seconds` later, SIGKILL (TensorFlow logs SIGTERM
    and trains on). What a worker leaves behind in its group is ended the same way. SIGINT, SIGTERM
    and SIGHUP to this process are passed on and end the job likewise, the second one at once; the
    outcome says so and no KeyboardInterrupt is raised. That needs the main thread: called in
    another, signals are left alone. Where every worker answers with status 42 (preempted, all
    saved) the outcome's status is 42 too.

    With `max_restarts` a job that a worker's failure has ended is started again, all of its
    workers, on new ports, when the last process of the old start is gone. A failure with status 42
    does not count. A job that ends soon after its start three times in a row is given up. The
    reason, the restart's number and the wait (1 s, doubled after each further early end) are
    printed on standard error. A job whose own output cannot be written is not started again.

    With `hosts` this host's part of a larger job runs: TF_CONFIG lists all hosts' workers, their
    names are resolved and this host's ports checked before a worker starts, ports stay the same,
    and waits of several hosts begin at 25 s. Each host's launcher decides for itself: a worker's
    failure ends its host's workers, the other hosts' end by TensorFlow's own error within about
    25 s, and all launchers restart, if all were told to. A host whose launcher has ended, given up
    or succeeded, is waited for until the bring-up deadline of the others' workers, start after
    start.

    With `num_ps` a chief runs the program, and workers and parameter servers serve it; see
    `strategies.parameter_server_strategy`. Lines begin with `[chief] `, `[worker 0] `, `[ps 0] `.
    The chief's end ends the job, with its status. A worker that fails is started again alone, on
    the port it had, at most `max_restarts` times each; the chief's or a server's failure is that of
    the job. Signals go to the chief, and the others end after it.

    If this process is killed, even by SIGKILL, the groups are killed. On Linux the kernel does so
    for the workers themselves; on macOS a small guard process does it for everything, which
    leaves a gap of microseconds after a worker's start.

    Args:
        command: Program and arguments; no shell is involved. The program must exist.
        num_workers: Workers to start; with `hosts`, on each host. Positive.
        num_ps: Parameter servers to start, beside a chief. At least 0; 0 starts neither.
        hosts: All hosts of the job and this one's place. None: this host alone.
        grace_seconds: Time to end by oneself, from SIGTERM to SIGKILL. At least 0, finite.
        max_restarts: Restarts after failures. At least 0; with 0 only preempted jobs start again.
            None: nothing is started again.
        early_seconds: A failure sooner after the start is an early one. At least 0; 0: none is.
        start_seconds: Deadline for the hosts' names (None: 300 s) and, as TFSCALE_START_SECONDS in
            the workers' environment, for the cluster to come together. Positive.
        log_dir: Folder for `worker-<i>.attempt-<restart>.log`, what worker i wrote, without prefix.
            Made if missing; a file that is there is added to, a link or a device is refused.
        output: Binary stream for the workers' lines. None: standard output.

    Returns:
        How the job ended; its `status` is what a shell would show.

    Raises:
        ValueError: If an argument is impossible.
        FileNotFoundError: If the program is not there, or is not executable.
        OSError: If the system refuses a process, a pipe, a port or a log file, or a host's name
            has no address in time.
        NotImplementedError: On Windows.

    Example:
        >>> output = io.BytesIO()
        >>> launch_local_workers(["echo", "hello"], num_workers=1, output=output).status
        0
        >>> output.getvalue()
        b'[worker 0] hello\n'
    """
    if sys.platform == "win32":
        raise NotImplementedError(
            "`tfscale launch` needs process groups and POSIX signals, which Windows lacks. Run it "
            "in WSL 2, or start the workers yourself, each with its own TF_CONFIG."
        )
    _check(command, num_workers, grace_seconds, start_seconds)
    if not isinstance(num_ps, int) or isinstance(num_ps, bool) or num_ps < 0 or (num_ps and hosts):
        raise ValueError(
            "`num_ps` must be an integer of at least 0, and 0 where `hosts` are given. Received: "
            f"num_ps={num_ps!r}. On several hosts, start each task with its own TF_CONFIG."
        )
    _refuse_too_many("num_ps", num_ps)
    if hosts is not None and not isinstance(hosts, Hosts):
        raise ValueError(
            f"`hosts` must be Hosts, or None. Received: hosts={hosts!r}. Build it with "
            "tfscale.launch.Hosts(addresses, index)."
        )
    if hosts is not None:
        hosts.worker_addresses(num_workers)  # Raises where there is no room for the ports.
    several = hosts is not None and len(hosts.addresses) > 1
    first_wait = _FIRST_WAIT_SECONDS_OF_HOSTS if several else _FIRST_WAIT_SECONDS
    policy = RestartPolicy(max_restarts, early_seconds, first_wait)
    log_folder = None if log_dir is None else _writable_folder(log_dir)
    events: Events = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        # First and left last: from here on a signal ends the job in order. The guard is left after
        # the workers were: should anything below raise, it kills what was started.
        stack.enter_context(signals_as_events(events))
        shared_output = SharedOutput(output)
        job = Job(
            name=secrets.token_hex(8),
            command=command,
            num_workers=num_workers,
            num_ps=num_ps,
            policy=policy,
            hosts=hosts,
            grace_seconds=grace_seconds,
            start_seconds=start_seconds,
            log_dir=log_folder,
            words_dir=Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfscale-"))),
            output=shared_output,
            events=events,
            guard=stack.enter_context(OrphanGuard()),
        )
        return _run_with_restarts(job, policy, stack.enter_context(contextlib.ExitStack()))


def _run_with_restarts(
    job: Job, policy: RestartPolicy, ports_of_job: contextlib.ExitStack
) -> Outcome:
    failures: list[WorkerFailure] = []
    while True:
        restarts = len(failures)
        outcome = run_attempt(job, restarts, ports_of_job)
        outcome = dataclasses.replace(outcome, restarts=restarts)
        # Never beside what SIGKILL has left of the last start.
        if outcome.first_failure is None or outcome.not_ended:
            return outcome
        if outcome.stop_signal is not None:
            received = f"{signal_name(outcome.stop_signal)} was received"
            reason = None if policy.max_restarts is None else received
            return dataclasses.replace(outcome, not_restarted=reason)
        failures.append(outcome.first_failure)
        match policy.decide(failures):
            case NoRestart(reason):
                return dataclasses.replace(outcome, not_restarted=reason)
            case Restart() as restart:
                count = "free" if restart.free else "counted"
                say(
                    f"{outcome}. Restart {restarts + 1} in {restart.wait_seconds:g} s, {count}: "
                    f"{restart.used} of {policy.max_restarts} used"
                )
                stop_signal = _signal_within(restart.wait_seconds, job.events)
                if stop_signal is not None:
                    return Outcome(
                        stop_signal=stop_signal, all_saved=restart.free, restarts=restarts
                    )


def _signal_within(seconds: float, events: Events) -> int | None:
    deadline = time.monotonic() + seconds
    while (event := next_event(events, deadline)) is not None:
        if isinstance(event, SignalReceived):
            return event.number
    return None


def _refuse_too_many(name: str, count: int) -> None:
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
            f"log_dir={str(log_dir)!r} ({output_files.reason(error)}). Name another folder."
        ) from error
    return folder


def _check(
    command: Sequence[str], num_workers: int, grace_seconds: float, start_seconds: float | None
) -> None:
    is_sequence = isinstance(command, Sequence) and not isinstance(command, (str, bytes))
    if not is_sequence or not command or not all(isinstance(part, str) for part in command):
        raise ValueError(
            "`command` must be a sequence of strings, program first. "
            f"Received: command={command!r}. Example: [sys.executable, 'train.py']."
        )
    cure = "Give 2 or more to train on several workers."
    _refuse_too_many("num_workers", whole_number("num_workers", num_workers, cure=cure))
    rule, cure = "finite and at least 0", "Give 0 to kill at once."
    number("grace_seconds", grace_seconds, rule, lambda seconds: seconds >= 0, cure=cure)
    if start_seconds is not None:
        rule, cure = "positive and finite", "Leave it out for the defaults of 300 s."
        number("start_seconds", start_seconds, rule, lambda seconds: seconds > 0, cure=cure)
    program = command[0]
    if shutil.which(program) is None:
        cure = (
            f"Run it by Python: python {program}."
            if program.endswith(".py") and Path(program).exists()
            else "Give the path of an executable file, or a name found on PATH."
        )
        raise FileNotFoundError(
            f"`command` must begin with a program that exists. Received: {program!r}. {cure}"
        )
