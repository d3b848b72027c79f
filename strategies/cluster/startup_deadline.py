"""A deadline for a cluster to come together.

TensorFlow waits for ever for a peer that never starts, inside a call that holds Python's lock: no
exception, signal handler or thread of this process runs meanwhile. So a small process beside it
watches the clock; past the deadline it says which peers were missing and ends this one.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from strategies.arguments import number
from strategies.cluster.cluster import Cluster
from strategies.cluster.environments import start_seconds_from_environment

_WATCH = Path(__file__).with_name("startup_watch.py")


def start_seconds(bring_up_seconds: float | None) -> float:
    """Returns how long a strategy's start may take; what the environment says where None is given.

    Raises:
        ValueError: If it is no positive, finite number.
    """
    return number(
        "bring_up_seconds",
        start_seconds_from_environment() if bring_up_seconds is None else bring_up_seconds,
        "positive and finite",
        lambda seconds: seconds > 0,
        cure="The default is 300.",
    )


@contextlib.contextmanager
def bring_up_deadline(cluster: Cluster, seconds: float) -> Iterator[None]:
    """Ends this process (SIGKILL) if what is inside has not finished after `seconds`.

    Args:
        cluster: The cluster that is coming together.
        seconds: The deadline. Positive.
    """
    peers = {
        f"{job} {index}": address
        for job, addresses in cluster.jobs.items()
        for index, address in enumerate(addresses)
        if (job, index) != (cluster.task_type, cluster.task_index)
    }
    own = f"{cluster.task_type} {cluster.task_index}"
    # -S and -E: the watch needs the standard library only, and starts the sooner.
    command = [sys.executable, "-S", "-E", str(_WATCH), own, str(seconds), json.dumps(peers)]
    watch = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        # The end of its input tells the watch to go, also where this process is killed.
        watch.communicate()
