"""Whether TensorFlow has ended the collectives of this process, asked without waiting for others.

TensorFlow ends all collectives of a process when a worker has reported a failure, has sent no
heartbeat for 20 s, or is gone; also when that worker is the one that serves the others. A wait that
TensorFlow does not know of would not notice. It runs the collective of this file: one of a group
that only this worker belongs to, which is complete at once, or fails with the reason.
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.ops import collective_ops

from strategies.coordination.rendezvous import worker_index

_GROUPS = 2**28
"""Group keys from here on; TensorFlow counts its own up from 1."""


class PeerFailures:
    """Raises if TensorFlow knows that another worker has failed.

    Args:
        strategy: A strategy of several workers, all of which are here: the first worker resolves
            the group.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._group = _GROUPS + worker_index(strategy)
        self.check()

    def check(self) -> None:
        """Runs the collective, in a few tens of microseconds; any thread may call it.

        Raises:
            tf.errors.OpError: With the reason, which names the worker if it is known.
        """
        with tf.device("CPU:0"):
            collective_ops.all_reduce_v2(tf.constant([0.0]), 1, self._group, self._group)
