"""A task that serves the chief of an asynchronous training, and ends when the chief does."""

from __future__ import annotations

import socket
import sys
import time
from typing import NoReturn

import tensorflow as tf

from strategies.announcement import announce
from strategies.cluster.cluster import Cluster, host_and_port
from strategies.deadline import Deadline

PROBE_SECONDS = 1.0
"""Time between two probes of the chief."""

SILENCE_SECONDS = 30.0
"""A chief whose host does not answer for this long has ended; one that refuses has too."""


def serve_until_chief_ends(cluster: Cluster, bring_up_seconds: float) -> NoReturn:
    """Runs TensorFlow's server of a worker or a parameter server; never returns.

    TensorFlow's `Server.join` waits forever, also for a chief that was killed. The chief's server
    listens as long as its process lives, so this task probes it.

    Args:
        cluster: The cluster, with a chief and this task.
        bring_up_seconds: How long to wait for the chief to start. Positive.

    Raises:
        SystemExit: Always: 0 when the chief has ended, 1 if it did not start.
    """
    server = tf.distribute.Server(
        tf.train.ClusterSpec({job: list(hosts) for job, hosts in cluster.jobs.items()}),
        job_name=cluster.task_type,
        task_index=cluster.task_index,
        protocol="grpc",
    )
    own, chief = f"{cluster.task_type} {cluster.task_index}", cluster.jobs["chief"][0]
    if not _starts(chief, bring_up_seconds):
        announce(
            f"{own} waited {bring_up_seconds:g} s for the chief at {chief} and gives up. Start all "
            "tasks within `bring_up_seconds` (tfscale launch --start_seconds)."
        )
        sys.exit(1)
    _wait_for_end(chief)
    announce(f"{own} ends: the chief at {chief} has ended.")
    del server  # it must live until here
    sys.exit(0)


def _starts(address: str, seconds: float) -> bool:
    deadline = Deadline(seconds)
    while not _listens(address):
        if deadline.is_over():
            return False
        time.sleep(PROBE_SECONDS)
    return True


def _wait_for_end(address: str) -> None:
    silence = Deadline(SILENCE_SECONDS)
    while not silence.is_over():
        time.sleep(PROBE_SECONDS)
        answer = _listens(address)
        if answer is False:
            return
        if answer:
            silence = Deadline(SILENCE_SECONDS)


def _listens(address: str) -> bool | None:
    """Returns whether something listens at "host:port"; None if its host does not answer."""
    try:
        with socket.create_connection(host_and_port(address), timeout=PROBE_SECONDS):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:  # no route, unknown name, timeout
        return None
