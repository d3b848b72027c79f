"""A deadline for the start of a cluster or a TPU.

TensorFlow waits without limit for a peer that never starts, inside a call that keeps Python's lock:
no exception, signal handler or thread of this process runs meanwhile. So a small process beside it
keeps the time. At the deadline it prints what is missing and ends this process.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from strategies.arguments import number
from strategies.cluster.cluster import Cluster
from strategies.cluster.environments import start_seconds_from_environment
from strategies.cluster.server_probe import answers
from strategies.number_rules import POSITIVE

_POLL_SECONDS = 0.01
_WATCH = Path(__file__).with_name("startup_watch.py")


def start_seconds(bring_up_seconds: float | None) -> float:
    """Returns how long the start of a strategy may take; None takes the value of the environment.

    Raises:
        ValueError: If it is not a positive, finite number.
    """
    return number(
        "bring_up_seconds",
        start_seconds_from_environment() if bring_up_seconds is None else bring_up_seconds,
        POSITIVE.words,
        POSITIVE.accepts,
        cure="The default is 300.",
    )


@contextlib.contextmanager
def startup_deadline(
    name: str, seconds: float, *, expired: str, peers: Mapping[str, str] | None = None
) -> Iterator[Callable[[str], None]]:
    """Ends this process (SIGKILL) if the body has not finished after `seconds`.

    Args:
        name: Begins the lines about phases, such as "TPU 'local'".
        seconds: The deadline. Positive.
        expired: The line at the deadline. `{missing}` in it becomes the peers without an answer,
            `{phase}` the last phase.
        peers: Addresses "host:port" by name, which are probed at the deadline.

    Yields:
        A function that prints the phase that begins, such as "initialising 8 cores". The watch
        repeats a phase that lasts.
    """
    request = {"name": name, "seconds": seconds, "peers": dict(peers or {}), "expired": expired}
    # -S and -E: the watch needs the standard library only, and starts faster without the rest.
    command = [sys.executable, "-S", "-E", str(_WATCH), json.dumps(request)]
    watch = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    assert watch.stdin is not None
    stdin = watch.stdin

    def begin(phase: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            stdin.write(f"{phase}\n".encode())
            stdin.flush()

    try:
        yield begin
    finally:
        # The end of its input ends the watch, also if this process is killed.
        watch.communicate()


def await_first_worker(cluster: Cluster) -> None:
    """Waits until the server of the first worker, to which all others connect, answers.

    A client of gRPC whose first attempt is refused makes the next one a second later, and this
    process often starts a few milliseconds before the first worker. Waits without a limit: call it
    inside `cluster_deadline`.

    Args:
        cluster: The cluster that starts.
    """
    job = "chief" if "chief" in cluster.jobs else "worker"
    if (cluster.task_type, cluster.task_index) == (job, 0):
        return
    while not answers(cluster.jobs[job][0]):
        time.sleep(_POLL_SECONDS)


def cluster_deadline(
    cluster: Cluster, seconds: float
) -> contextlib.AbstractContextManager[Callable[[str], None]]:
    """Returns the `startup_deadline` of a cluster whose tasks wait for each other.

    Args:
        cluster: The cluster that starts.
        seconds: The deadline. Positive.
    """
    peers = {
        f"{job} {index}": address
        for job, addresses in cluster.jobs.items()
        for index, address in enumerate(addresses)
        if (job, index) != (cluster.task_type, cluster.task_index)
    }
    own = f"{cluster.task_type} {cluster.task_index}"
    return startup_deadline(
        own,
        seconds,
        peers=peers,
        expired=f"{own} waited {seconds:g} s for the cluster to start and gives up. Missing: "
        "{missing}. Start all tasks within `bring_up_seconds` (tfscale launch --start_seconds), "
        "and check that their addresses are reachable from here.",
    )
