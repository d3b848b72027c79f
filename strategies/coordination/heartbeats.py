"""Heartbeats of workers, in the coordination service: TensorFlow's, and those of tfscale.

TensorFlow's tell the service that a process lives. Workers send one every half of the limit. After
a cut of a few seconds TCP retries at doubling intervals: 5 s without a link lead to 6 or 9 s of
silence, in addition to the time to the next heartbeat. This often exceeds TensorFlow's own limit of
10 s (measured: 3 of 4 jobs were lost).

tfscale's say what a worker is doing. Writing one takes two calls and reading it takes one, 0.7 ms
each on one host (measured), without Python's lock. Reads have a deadline. Writes have none if the
first worker's process is stopped, so they belong in a separate thread.
"""

from __future__ import annotations

import contextlib

import tensorflow as tf
from tensorflow.python.distribute import multi_worker_util
from tensorflow.python.eager import context

from strategies.coordination.rendezvous import worker_index, workers_of

LIMIT_SECONDS = 20.0


def configure_heartbeats(spec: tf.train.ClusterSpec) -> None:
    """Sets the silence after which the coordination service gives up on a worker.

    TensorFlow is about to start the service. If it is configured already, it stays as it is: a
    process has only one.

    Args:
        spec: The workers, and the chief if there is one.
    """
    if context.context().coordination_service is not None:
        return
    jobs = tf.compat.v1.ConfigProto().experimental.coordination_config.coordinated_job_list
    for job in ("chief", "worker"):
        if job in spec.jobs:
            jobs.add(name=job, num_tasks=spec.num_tasks(job))
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=multi_worker_util.coordination_leader(spec),
        heartbeat_timeout_in_ms=round(LIMIT_SECONDS * 1000),
        coordinated_jobs=list(jobs),
    )


class HeartbeatBoard:
    """The heartbeats of all workers on one topic, in the table of the coordination service.

    Args:
        strategy: A strategy of several workers.
        topic: Such as "program" or "fit 0"; the same on all workers.

    Attributes:
        names: The names of all workers, such as "worker 1", in order. The process of the first one
            serves the table.
        own: The index of this worker.
    """

    def __init__(self, strategy: tf.distribute.Strategy, topic: str) -> None:
        workers = workers_of(strategy)
        self.names = [f"{job} {index}" for job, index in workers]
        self.own = worker_index(strategy)
        self._keys = [f"tfscale/heartbeat/{topic}/{job}/{index}" for job, index in workers]

    def write(self, heartbeat: str) -> None:
        """Replaces this worker's heartbeat. Blocks while the first worker's process is stopped.

        Raises:
            tf.errors.OpError: If the table is gone.
        """
        table = context.context()
        table.delete_config_key_value(self._keys[self.own])  # the table cannot overwrite
        table.set_config_key_value(self._keys[self.own], heartbeat)

    def read(self, worker: int, seconds: float) -> str | None:
        """Returns a worker's last heartbeat, or None if there is none within `seconds`.

        Raises:
            tf.errors.OpError: If the table is gone.
        """
        try:
            milliseconds = max(1, round(seconds * 1000))  # 0 would mean to wait forever
            return str(context.context().get_config_key_value(self._keys[worker], milliseconds))
        except (tf.errors.DeadlineExceededError, tf.errors.NotFoundError):
            return None

    def end_job(self, why: str) -> None:
        """Ends every wait of every worker with an error that says `why`, if the table answers.

        TensorFlow 2.21 keeps Python's lock meanwhile. If the table stops answering at this moment,
        only another process can end the caller.
        """
        with contextlib.suppress(tf.errors.OpError, ValueError):
            if self.read(self.own, 1.0) is not None:
                context.context().report_error_to_cluster(tf.errors.ABORTED, why[:1000])
