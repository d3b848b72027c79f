"""How workers that train in step agree where to stop, when one of them has been told to go.

    notice = PreemptionNotice(strategy)       # every worker, when training begins
    notice.tell_all()                         # any worker, between two executions
    if notice.is_here(): ...                  # every worker, after every execution

In ordinary steps nobody says a word: each worker waits, in a thread, for one key in the table of
TensorFlow's coordination service (a call that lets other threads run). Once told, a worker counts
itself in at the end of an execution. The last to do so chooses the end of the next execution, and
writes that down before it enters it. An execution has a collective, so no worker ends it before
the last one has entered it: whoever looks for the choice at its end finds it.

A look must not depend on time, and the table has no question that is answered with "no" at once.
It refuses to insert a key twice, though. So to look is to insert, and so is to count oneself in.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import threading

import tensorflow as tf
from tensorflow.python.eager import context

from strategies.coordination.rendezvous import insert, worker_index

_GO, _OVER, _ON, _HERE = "go", "over", "on", "here"
_AGAIN_SECONDS = 1.0
_DEADLINE_MS = 60_000

_TRAININGS = itertools.count()


class PreemptionNotice:
    """One worker's part of the agreement, for one training.

    All workers make their n-th together, and each must enter a collective in every execution.

    Args:
        strategy: A strategy of several workers.

    Attributes:
        is_known: Set once this worker knows that some worker has been told to go.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        jobs = strategy.cluster_resolver.cluster_spec().as_dict()
        self._num_workers = sum(len(jobs.get(job, ())) for job in ("chief", "worker"))
        self._own = worker_index(strategy)
        self._prefix = f"tfscale/preemption/{next(_TRAININGS)}"
        self._executions = 0
        self._is_counted = False
        self._is_over = threading.Event()
        self.is_known = threading.Event()
        # It may wait in TensorFlow for as long as the process lives.
        threading.Thread(target=self._listen, name="tfscale preemption", daemon=True).start()
        atexit.register(self.end)

    def tell_all(self) -> None:
        """Lets every worker know, this one too.

        Raises:
            tf.errors.OpError: If the coordination service is gone.
            TimeoutError: If it does not answer.
        """
        self.is_known.set()
        for worker in range(self._num_workers):
            self._insert(f"told/{worker}", _GO)

    def is_here(self) -> bool:
        """Tells whether all workers stop here; every worker asks after every execution.

        Raises:
            tf.errors.OpError: If the coordination service is gone.
            TimeoutError: If it does not answer.
        """
        self._executions += 1
        if not self.is_known.is_set():
            return False
        if not self._is_counted:
            self._is_counted = True
            if self._place() == self._num_workers - 1:
                self._insert(f"after/{self._executions + 1}", _HERE)
            return False
        place = f"after/{self._executions}"
        return not self._insert(place, _ON) and self._value(place, _DEADLINE_MS) == _HERE

    def end(self) -> None:
        """Listens no more; may be called again."""
        atexit.unregister(self.end)
        if not self._is_over.is_set():
            self._is_over.set()
            # The service may be gone, or stopped.
            with contextlib.suppress(tf.errors.OpError, ValueError, TimeoutError):
                self._insert(f"told/{self._own}", _OVER)

    def _place(self) -> int:
        """This worker's place among those that have counted themselves in, from 0."""
        return next(
            place for place in itertools.count() if self._insert(f"counted/{place}", str(self._own))
        )

    def _listen(self) -> None:
        while not self._is_over.is_set():
            try:
                if self._value(f"told/{self._own}", 0) == _GO:
                    self.is_known.set()
                return
            except (tf.errors.OpError, ValueError):  # training itself will tell what is wrong
                self._is_over.wait(_AGAIN_SECONDS)

    def _insert(self, key: str, value: str) -> bool:
        """Writes a key that nobody has written; tells whether that was so."""
        return insert(f"{self._prefix}/{key}", value)

    def _value(self, key: str, deadline_ms: int) -> str:
        """Waits for a key's value; 0 milliseconds are for ever."""
        return str(context.context().get_config_key_value(f"{self._prefix}/{key}", deadline_ms))
