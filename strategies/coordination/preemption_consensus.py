"""Agrees on the step at which all synchronous workers stop if one of them is preempted.

    notice = PreemptionNotice(strategy)       # every worker, when training begins
    notice.notify_all()                       # any worker, between two executions
    if notice.stops_here(): ...               # every worker, after every execution

Ordinary steps send no messages: each worker waits, in a thread, for one key in the table of
TensorFlow's coordination service (a call that lets other threads run). Once notified, a worker
registers at the end of an execution. The last worker to register chooses the end of the next
execution, and writes this before it enters that execution. An execution has a collective, so no
worker finishes it before the last one has entered it, and every worker finds the choice at its end.

A look must not depend on time, and the table cannot answer "no such key" at once. But it rejects a
second insert of a key. So a look is an insert, and so is registering.
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
_RETRY_SECONDS = 1.0
_DEADLINE_MS = 60_000

_TRAININGS = itertools.count()


class PreemptionNotice:
    """One worker's part of the agreement, for one training.

    All workers construct their n-th one for the same training. Each must enter a collective in
    every execution.

    Args:
        strategy: A strategy of several workers.

    Attributes:
        is_known: Set once this worker knows that a worker is preempted.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        jobs = strategy.cluster_resolver.cluster_spec().as_dict()
        self._num_workers = sum(len(jobs.get(job, ())) for job in ("chief", "worker"))
        self._own = worker_index(strategy)
        self._prefix = f"tfscale/preemption/{next(_TRAININGS)}"
        self._executions = 0
        self._is_registered = False
        self._is_over = threading.Event()
        self.is_known = threading.Event()
        # It may wait in TensorFlow for as long as the process lives.
        threading.Thread(target=self._listen, name="tfscale preemption", daemon=True).start()
        atexit.register(self.end)

    def notify_all(self) -> None:
        """Notifies every worker, including this one.

        Raises:
            tf.errors.OpError: If the coordination service is gone.
            TimeoutError: If it does not answer.
        """
        self.is_known.set()
        for worker in range(self._num_workers):
            self._insert(f"notified/{worker}", _GO)

    def stops_here(self) -> bool:
        """Returns whether all workers stop here; every worker calls it after every execution.

        Raises:
            tf.errors.OpError: If the coordination service is gone.
            TimeoutError: If it does not answer.
        """
        self._executions += 1
        if not self.is_known.is_set():
            return False
        if not self._is_registered:
            self._is_registered = True
            if self._place() == self._num_workers - 1:
                self._insert(f"after/{self._executions + 1}", _HERE)
            return False
        place = f"after/{self._executions}"
        return not self._insert(place, _ON) and self._value(place, _DEADLINE_MS) == _HERE

    def end(self) -> None:
        """Stops listening; may be called more than once."""
        atexit.unregister(self.end)
        if not self._is_over.is_set():
            self._is_over.set()
            # The service may be gone, or stopped.
            with contextlib.suppress(tf.errors.OpError, ValueError, TimeoutError):
                self._insert(f"notified/{self._own}", _OVER)

    def _place(self) -> int:
        """Registers this worker and returns how many registered before it."""
        return next(
            place
            for place in itertools.count()
            if self._insert(f"registered/{place}", str(self._own))
        )

    def _listen(self) -> None:
        while not self._is_over.is_set():
            try:
                if self._value(f"notified/{self._own}", 0) == _GO:
                    self.is_known.set()
                return
            except (tf.errors.OpError, ValueError):  # training itself will fail with the cause
                self._is_over.wait(_RETRY_SECONDS)

    def _insert(self, key: str, value: str) -> bool:
        """Writes a key unless it exists, and returns whether it was written."""
        return insert(f"{self._prefix}/{key}", value)

    def _value(self, key: str, deadline_ms: int) -> str:
        """Waits for the value of a key; 0 milliseconds means without a deadline."""
        return str(context.context().get_config_key_value(f"{self._prefix}/{key}", deadline_ms))
