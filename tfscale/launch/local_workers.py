"""Runs the workers of a training job on this host, with restarts."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from strategies.extension import whole_number
from tfscale.launch.attempt import run_attempt
from tfscale.launch.attempts import run_with_restarts
from tfscale.launch.host_job import check_job, host_job, refuse_too_many
from tfscale.launch.hosts import Hosts
from tfscale.launch.outcome import Outcome
from tfscale.launch.restarts import RestartPolicy

_FIRST_WAIT_SECONDS = 1.0
# On several hosts each launcher detects the failure separately, the last one by TensorFlow's
# heartbeat, which takes up to 20 s (strategies.coordination.heartbeats). A worker that restarted
# earlier would join peers that are about to end.
_FIRST_WAIT_SECONDS_OF_HOSTS = 25.0


def launch_local_workers(
    command: Sequence[str],
    num_workers: int,
    *,
    num_ps: int = 0,
    num_data_workers: int = 0,
    hosts: Hosts | None = None,
    gpus_per_worker: int | None = None,
    cpus_per_worker: int | None = None,
    time_limit: float | None = None,
    grace_seconds: float = 10.0,
    max_restarts: int | None = None,
    early_seconds: float = 20.0,
    start_seconds: float | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
    job_id: str | None = None,
    output: BinaryIO | None = None,
) -> Outcome:
    r"""Runs a command as N workers of one TensorFlow cluster on this host, until all have ended.

    Worker i gets the environment of this process and these variables: TF_CONFIG, which describes a
    cluster of N workers on free ports of 127.0.0.1 and task i in it; TFSCALE_RESTART, the number of
    restarts so far; TFSCALE_JOB_ID, a random name that stays the same over restarts; and
    PYTHONUNBUFFERED=1. A single worker gets a TF_CONFIG too, so that it runs the same code as
    several. Standard input is empty. Standard output and standard error are merged, and each line
    is prefixed with `[worker i] `.

    If a worker fails, the job is ended, because its peers would wait for it, or fail in confusing
    ways. Every process group gets SIGTERM and, after `grace_seconds`, SIGKILL (on SIGTERM
    TensorFlow only logs a message and continues). Processes that a worker leaves in its group are
    ended the same way. SIGINT, SIGTERM and SIGHUP to this process are passed on and end the job in
    the same way; a second signal kills at once. The outcome contains the signal, and no
    KeyboardInterrupt is raised. Signals are handled only if this is called in the main thread. If
    every worker exits with status 42 (preempted, all saved), the outcome's status is 42 too.

    With `max_restarts` a failed job is restarted as a whole, on new ports, once the last process of
    the previous start has ended. A preemption (status 42) uses none of them. A job that ends within
    `early_seconds` of its start three times in a row, also by preemption, is not restarted. The
    reason, the restarts used and the wait (1 s, doubled after each further early end) are printed
    on standard error. A job whose output cannot be written is not restarted.

    With `hosts` this host runs its part of a larger job. TF_CONFIG lists the workers of all hosts.
    Before any worker starts, the hosts' names are resolved and the ports of this host are checked.
    Restarts use the same ports, and with several hosts waits begin at 25 s. Each host's launcher
    decides independently: a failure ends the workers of its host, the workers of the other hosts
    end with a TensorFlow error within about 25 s, and every launcher that has `max_restarts`
    restarts. If the launcher of one host has ended, the workers of the others wait for that host
    until their start-up deadline, at every restart.

    With `num_ps` a chief runs the program, and workers and parameter servers serve it; see
    `strategies.parameter_server_strategy`. Lines are prefixed with `[chief] `, `[worker 0] ` or
    `[ps 0] `. The chief's end ends the job, with the chief's status. A worker that fails is
    restarted by itself on the same port, at most `max_restarts` times for each worker. A failure of
    the chief or of a server is a failure of the job. Signals go to the chief, and the others end
    after it.

    With `num_data_workers` more processes of the command compute the input of the workers; see
    `tfscale.data.served`. All processes get their addresses in TFSCALE_DATA_WORKERS. A data worker
    also has its index in TFSCALE_DATA_WORKER, no GPU, a cluster of one worker in TF_CONFIG, and the
    prefix `[data worker i] `. One that ends early is restarted by itself while the workers
    continue, whatever `max_restarts` is, but not after three ends in a row within `early_seconds`
    of its start. If no data worker is left and the last one has failed, the job has failed. Data
    workers are ended after the workers.

    If this process is killed, even by SIGKILL, the process groups are killed. On Linux the kernel
    does so for the workers themselves. On macOS a small guard process does it for all, with a gap
    of microseconds after a worker's start.

    Args:
        command: Program and arguments; no shell is involved. The program must exist.
        num_workers: Workers to start; with `hosts`, on each host. Positive.
        num_ps: Parameter servers to start, with a chief. At least 0; 0 starts neither.
        num_data_workers: Processes to start that compute the input of the workers. At least 0. Only
            without `num_ps` and `hosts`.
        hosts: All hosts of the job and the index of this one. None for this host only.
        gpus_per_worker: GPUs that each worker sees, of those that this process sees; worker 0 the
            first ones. Chief, servers and data workers see none then. 0 hides all. None: all see
            all.
        cpus_per_worker: CPUs that each worker runs on, of those of this process. Positive. None:
            all share all.
        time_limit: Seconds after which the job gets SIGTERM, over all restarts. Positive. None:
            no limit.
        grace_seconds: Seconds between SIGTERM and SIGKILL. At least 0, finite.
        max_restarts: Restarts after failures. At least 0; with 0 only preempted jobs are restarted.
            None never restarts.
        early_seconds: A failure or preemption within so many seconds of the start is early. At
            least 0; with 0 none is early.
        start_seconds: Seconds until the hosts' names must resolve (None: 300 s) and, passed to the
            workers as TFSCALE_START_SECONDS, until the cluster must be complete. Positive.
        log_dir: Folder for `worker-<i>.attempt-<restart>.log`, the output of worker i without
            prefix, and `worker-<i>.attempt-<restart>.error.json`, the error with its traceback that
            ended the worker. It is created if missing. Existing logs are appended to; links and
            devices raise an error.
        environment: Variables that all processes get in addition.
        job_id: The value of TFSCALE_JOB_ID. None makes a random one.
        output: Binary stream for the workers' lines. None uses standard output.

    Returns:
        How the job ended. Its `status` is the exit status that a shell would show.

    Raises:
        ValueError: If an argument is out of range.
        FileNotFoundError: If the program does not exist or is not executable.
        OSError: If the system provides no process, pipe, port or log file, or a host's name cannot
            be resolved in time.
        NotImplementedError: On Windows.

    Example:
        >>> output = io.BytesIO()
        >>> launch_local_workers(["echo", "hello"], num_workers=1, output=output).status
        0
        >>> output.getvalue()
        b'[worker 0] hello\n'
    """
    check_job(command, num_workers, grace_seconds, start_seconds)
    check_tasks(num_workers, num_ps, num_data_workers, hosts)
    several = hosts is not None and len(hosts.addresses) > 1
    first_wait = _FIRST_WAIT_SECONDS_OF_HOSTS if several else _FIRST_WAIT_SECONDS
    policy = RestartPolicy(max_restarts, early_seconds, first_wait)
    with (
        host_job(
            command,
            name=job_id or secrets.token_hex(8),
            num_workers=num_workers,
            num_ps=num_ps,
            num_data_workers=num_data_workers,
            hosts=hosts,
            policy=policy,
            gpus_per_worker=gpus_per_worker,
            cpus_per_worker=cpus_per_worker,
            time_limit=time_limit,
            grace_seconds=grace_seconds,
            start_seconds=start_seconds,
            log_dir=log_dir,
            environment=environment,
            output=output,
        ) as job,
        contextlib.ExitStack() as ports_of_job,
    ):
        outcome = run_with_restarts(
            lambda restart: run_attempt(job, restart, ports_of_job), policy, job.events
        )
        return job.limit.told(outcome)


def check_tasks(num_workers: int, num_ps: int, num_data_workers: int, hosts: Hosts | None) -> None:
    """Refuses tasks that do not go together on this host.

    The arguments are those of `launch_local_workers`; `num_workers` has been checked.

    Raises:
        ValueError: If one is out of range, or does not go with another.
    """
    num_ps = whole_number("num_ps", num_ps, at_least=0, cure="Give 0 for synchronous training.")
    if num_ps and hosts:
        raise ValueError(
            f"`num_ps` must be 0 if `hosts` are given. Received: num_ps={num_ps!r}. On several "
            "hosts, start each task with its own TF_CONFIG."
        )
    refuse_too_many("num_ps", num_ps)
    num_data_workers = whole_number(
        "num_data_workers", num_data_workers, at_least=0, cure="Give 0 to compute input in workers."
    )
    if num_data_workers and (hosts or num_ps):
        other = f"hosts={hosts!r}" if hosts else f"num_ps={num_ps!r}"
        raise ValueError(
            "`num_data_workers` must be 0 with `hosts` or `num_ps`. Received: "
            f"num_data_workers={num_data_workers!r}, {other}. Data workers are started for "
            "synchronous training on one host; on several hosts, start them yourself, see "
            "tfscale.data.served."
        )
    refuse_too_many("num_data_workers", num_data_workers)
    if hosts is not None and not isinstance(hosts, Hosts):
        raise ValueError(
            f"`hosts` must be Hosts, or None. Received: hosts={hosts!r}. Build it with "
            "tfscale.launch.Hosts(addresses, index)."
        )
    if hosts is not None:
        hosts.worker_addresses(num_workers)  # Raises if the ports of two hosts overlap.
