"""Runs one host's workers of a job whose number of workers may change."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from strategies.extension import whole_number
from tfscale.launch.elastic.connection import (
    Connection,
    connected_socket,
    own_address,
)
from tfscale.launch.elastic.launcher import ElasticOutcome, Launcher, stopped
from tfscale.launch.elastic.membership import Rules
from tfscale.launch.elastic.messages import (
    PROTOCOL,
    Hello,
    digest,
)
from tfscale.launch.elastic.rendezvous import Rendezvous
from tfscale.launch.elastic.rendezvous_server import (
    RendezvousServer,
    own_listener,
)
from tfscale.launch.host_job import check_job, host_job
from tfscale.launch.restarts import RestartPolicy

# After SIGKILL a worker has half a minute to disappear (worker_process), and its output to end.
_KILLED_SECONDS = 45.0


def launch_elastic_workers(
    command: Sequence[str],
    rendezvous: Rendezvous,
    *,
    gpus_per_worker: int | None = None,
    cpus_per_worker: int | None = None,
    time_limit: float | None = None,
    grace_seconds: float = 10.0,
    max_restarts: int = 3,
    early_seconds: float = 20.0,
    start_seconds: float | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
    job_id: str | None = None,
    output: BinaryIO | None = None,
) -> ElasticOutcome:
    r"""Runs this host's part of a job on several hosts, whose number of workers may change.

    Called on every host, with the same arguments. The job starts when `max_workers` are there, or
    `min_workers` and no other host has joined for `settle_seconds`. Each worker gets a TF_CONFIG
    with all workers of this start, in the order in which their hosts joined, and the variables of
    `launch_local_workers`. TFSCALE_JOB_ID is the same on all hosts.

    TensorFlow cannot add or remove a worker of a running job, so the job is restarted as a whole,
    from its last checkpoint, if

    * a worker fails: with the same hosts, if they are still there;
    * a launcher is lost (its connection ends, or it shows no life for 15 s): with the others;
    * a launcher gets a signal, which means that its host leaves: all workers get SIGTERM, so that a
      `tfscale.callbacks.Checkpoint` saves and exits with status 42. Then with the others;
    * a host joins, or returns, and fewer than `max_workers` run: SIGTERM, then with it too.

    Only the first two use up a restart of `max_restarts`. The job is over when every worker has
    succeeded, when its restarts are used up, when `min_workers` are not there in `join_seconds`, or
    when the launcher that runs the rendezvous ends; every launcher then ends with the same status.
    If that launcher is killed, the others end with an error.

    Before a start with fewer workers than ever before, each host must have room for their larger
    shares of the global batch. The need is computed from the largest peak of host memory of a
    worker at each earlier size (`tfscale.launch.elastic.memory`), measured on Linux. Memory of
    accelerators is not checked.

    Args:
        command: Program and arguments, the same on all hosts; no shell is involved.
        rendezvous: Where the launchers meet, and the numbers of workers.
        gpus_per_worker: GPUs of each worker; see `launch_local_workers`.
        cpus_per_worker: CPUs of each worker; see `launch_local_workers`.
        time_limit: Seconds after which this host leaves, as at SIGTERM. Positive, or None.
        grace_seconds: Seconds between SIGTERM and SIGKILL. At least 0, finite.
        max_restarts: Restarts after failures. At least 0.
        early_seconds: A failure within so many seconds of the start is early. After three in a row
            there is no restart. At least 0; with 0 none is early. This and `max_restarts` count
            where the rendezvous runs.
        start_seconds: Passed to the workers as TFSCALE_START_SECONDS: seconds until the cluster
            must be complete. Positive, or None for 300.
        log_dir: Folder for `worker-<i>.attempt-<restart>.log`; see `launch_local_workers`.
        environment: Variables that the workers of this host get in addition.
        job_id: TFSCALE_JOB_ID of all workers, where the rendezvous runs; None for a random one.
        output: Binary stream for the workers' lines. None uses standard output.

    Returns:
        How the job ended, or, after a signal to this launcher, this host's part.

    Raises:
        ValueError: If an argument is out of range, or the launcher is refused because it was
            started with other arguments than the one that runs the rendezvous.
        FileNotFoundError: If the program does not exist or is not executable.
        RendezvousLost: If the rendezvous cannot be reached, or no longer.
        OSError: If the system provides no process, pipe, port or log file.
        NotImplementedError: On Windows.

    Example:
        >>> meeting = Rendezvous("127.0.0.1:29477", min_workers=1, max_workers=1)
        >>> output = io.BytesIO()
        >>> launch_elastic_workers(["echo", "hello"], meeting, output=output).status
        0
        >>> output.getvalue()
        b'[worker 0] hello\n'
    """
    if not isinstance(rendezvous, Rendezvous):
        raise ValueError(
            f"`rendezvous` must be a Rendezvous. Received: rendezvous={rendezvous!r}. Build it "
            "with tfscale.launch.Rendezvous(address, min_workers, max_workers)."
        )
    check_job(command, rendezvous.workers_per_host, grace_seconds, start_seconds)
    whole_number("max_restarts", max_restarts, at_least=0, cure="Pass 0 to restart after none.")
    policy = RestartPolicy(max_restarts, early_seconds)
    with contextlib.ExitStack() as stack:
        job = stack.enter_context(
            host_job(
                command,
                name="",  # the rendezvous says it
                num_workers=rendezvous.workers_per_host,
                policy=policy,
                gpus_per_worker=gpus_per_worker,
                cpus_per_worker=cpus_per_worker,
                time_limit=time_limit,
                grace_seconds=grace_seconds,
                start_seconds=start_seconds,
                log_dir=log_dir,
                environment=environment,
                output=output,
            )
        )
        listener = own_listener(rendezvous.host, rendezvous.port)
        token = secrets.token_hex(16)
        connected = connected_socket(
            rendezvous.host, rendezvous.port, rendezvous.join_seconds, job.events
        )
        if isinstance(connected, int):
            return stopped(connected)
        hello = Hello(
            protocol=PROTOCOL,
            job_name=rendezvous.job_name,
            min_workers=rendezvous.min_workers,
            max_workers=rendezvous.max_workers,
            workers_per_host=rendezvous.workers_per_host,
            command=digest(command),
            address=rendezvous.host_address or own_address(connected, rendezvous.host),
            token=token if listener is not None else "",
        )
        if listener is not None:
            rules = Rules(
                min_hosts=rendezvous.min_hosts,
                max_hosts=rendezvous.max_hosts,
                workers_per_host=rendezvous.workers_per_host,
                settle_seconds=rendezvous.settle_seconds,
                join_seconds=rendezvous.join_seconds,
                end_seconds=grace_seconds + _KILLED_SECONDS,
                policy=policy,
                checks_memory=rendezvous.checks_memory,
            )
            name = job_id or secrets.token_hex(8)
            stack.enter_context(RendezvousServer(listener, rules, hello, name))
        connection = stack.enter_context(Connection(connected, job.events))
        connection.send(hello)
        ports = stack.enter_context(contextlib.ExitStack())
        return Launcher(job, rendezvous, connection, ports, listener is not None).run()
