"""What each worker says of itself once a second, in the table of TensorFlow's coordination service.

A word costs its writer two calls and each reader one, 0.7 ms apiece on one host (measured), none of
which holds Python's lock. Reading has a deadline. Writing has none where the first worker's process
is stopped, so it belongs in a thread of its own.
"""

from __future__ import annotations

import contextlib

import tensorflow as tf
from tensorflow.python.eager import context

from strategies.coordination.rendezvous import worker_index, workers_of


class HeartbeatBoard:
    """The words of all workers about one thing.

    Args:
        strategy: A strategy of several workers.
        topic: What they are about, such as "program" or "fit 0"; the same on all workers.

    Attributes:
        names: Of all workers, such as "worker 1", in their order. The first one's process holds
            the table.
        own: This worker's place among them.
    """

    def __init__(self, strategy: tf.distribute.Strategy, topic: str) -> None:
        workers = workers_of(strategy)
        self.names = [f"{job} {index}" for job, index in workers]
        self.own = worker_index(strategy)
        self._keys = [f"tfscale/heartbeat/{topic}/{job}/{index}" for job, index in workers]

    def write(self, words: str) -> None:
        """Puts `words` in the place of this worker's last; may wait for a stopped first worker.

        Raises:
            tf.errors.OpError: If the table is gone.
        """
        table = context.context()
        table.delete_config_key_value(self._keys[self.own])  # it has no writing over
        table.set_config_key_value(self._keys[self.own], words)

    def read(self, worker: int, seconds: float) -> str | None:
        """Returns a worker's exit reason, or None if there are none within `seconds`.

        Raises:
            tf.errors.OpError: If the table is gone.
        """
        try:
            milliseconds = max(1, round(seconds * 1000))  # 0 would mean to wait for ever
            return str(context.context().get_config_key_value(self._keys[worker], milliseconds))
        except (tf.errors.DeadlineExceededError, tf.errors.NotFoundError):
            return None

    def end_job(self, why: str) -> None:
        """Ends what all workers wait for, with an error that says `why`, where the table answers.

        TensorFlow 2.21 holds Python's lock meanwhile: whoever calls must be ended from outside of
        Python if the table stops answering just then.
        """
        with contextlib.suppress(tf.errors.OpError, ValueError):
            if self.read(self.own, 1.0) is not None:
                context.context().report_error_to_cluster(tf.errors.ABORTED, why[:1000])
