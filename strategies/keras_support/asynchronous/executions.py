"""The executions that were handed out to workers and have not finished.

The coordinator accepts any number of executions, so `fit` could hand out a whole epoch before the
first step is done. Here only as many are handed out as keep every worker busy, and the next one
waits until an execution has ended.
"""

from __future__ import annotations

import contextlib
import queue
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute.coordinator import coordinator_context

from strategies.deadline import Deadline

A_WORKER = 2
"""Executions that a worker has at a time: one runs, and one waits."""

DEADLINE_SECONDS = 3600.0
"""Time without a finished execution after which training fails, as long as TensorFlow waits."""

_LOOK_SECONDS = 0.2

_MEANINGS = {
    tf.errors.UnavailableError: (
        "A parameter server failed, and its variables are lost. Restart the whole job from its "
        "last checkpoint: tfscale launch --max_restarts, tfscale.callbacks.Checkpoint."
    ),
    tf.errors.OutOfRangeError: (
        "`x` produced no batch for this worker. Give each worker at least one file, or let them "
        "share examples instead of files."
    ),
}


@dataclass
class Staleness:
    """Staleness over some steps.

    Attributes:
        steps: Steps measured.
        total: The sum of their staleness, in updates.
        largest: The largest of them, in updates; 0 where none was measured.

    Example:
        >>> epoch = Staleness()
        >>> epoch.add(steps=2, total=3, largest=2)
        >>> epoch.mean
        1.5
    """

    steps: int = 0
    total: int = 0
    largest: int = 0

    def add(self, steps: int, total: int, largest: int) -> None:
        """Counts the steps of one execution."""
        self.steps += steps
        self.total += total
        self.largest = max(self.largest, largest)

    @property
    def mean(self) -> float:
        """Updates by others that a step missed on average; NaN where none was measured."""
        return self.total / self.steps if self.steps else float("nan")


class Executions:
    """Hands executions to the workers that are free.

    Args:
        strategy: A parameter server strategy.

    Attributes:
        staleness: Of the steps that ended since the last `take_staleness`.
        extra: The extra logs of the last execution that ended; None before the first.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.staleness = Staleness()
        self.extra: Any = None
        self._coordinator = coordinator_of(strategy)
        self._limit = A_WORKER * num_workers(strategy)
        self._ended: queue.SimpleQueue[tuple[int, int, int, Any]] = queue.SimpleQueue()
        self._under_way = 0
        self._running: dict[str, float] = {}

    def busy(self) -> dict[str, float]:
        """Returns since when workers have been in an execution; may be called from any thread.

        By name, such as "worker 0", on the clock of `time.monotonic`.
        """
        return dict(self._running)

    def begin(self, execute: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Hands out one execution, as soon as there is room.

        Args:
            execute: Called in the chief's thread for a worker, with the worker's part of each
            argument; returns steps, total and largest staleness, and extra logs.
            arguments: Its arguments.

        Raises:
            tf.errors.OpError: What ended an earlier execution.
            TimeoutError: If none has ended within `DEADLINE_SECONDS`.
        """
        while self._under_way >= self._limit:
            self._take_one()

        def run(*own: Any) -> None:
            # The public function that tells the worker's index works in graphs only.
            worker = f"worker {coordinator_context.get_current_dispatch_context().worker_index}"
            self._running[worker] = time.monotonic()
            try:
                self._ended.put(execute(*own))
            finally:
                self._running.pop(worker, None)

        # The public `schedule` takes graph functions only, and does not tell when they end.
        with self._explaining():
            self._coordinator._cluster.schedule(run, args=arguments, kwargs={})
        self._under_way += 1

    def forget_extra(self) -> None:
        """Forgets what earlier executions returned."""
        self.extra = None

    def wait_for_first(self) -> None:
        """Returns when at least one has ended."""
        while self.extra is None and self._under_way:
            self._take_one()

    def wait_until_idle(self) -> None:
        """Returns when all have ended: no variable changes then."""
        while self._under_way:
            self._take_one()
        with self._explaining():
            self._coordinator.join()  # at once; raises what went wrong

    def take_staleness(self) -> Staleness:
        """Returns the staleness of the steps since the last call, and starts from zero."""
        staleness, self.staleness = self.staleness, Staleness()
        return staleness

    def _take_one(self) -> None:
        deadline = Deadline(DEADLINE_SECONDS)
        while True:
            try:
                steps, total, largest, self.extra = self._ended.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                with self._explaining():
                    self._coordinator.done()
                if deadline.is_over():
                    raise TimeoutError(
                        f"No worker has finished an execution within {DEADLINE_SECONDS:g} s. Check "
                        "for workers that failed and were not restarted (tfscale launch "
                        "--max_restarts). If an execution takes longer than that, reduce "
                        "`steps_per_execution`."
                    ) from None
                continue
            self._under_way -= 1
            self.staleness.add(steps, total, largest)
            return

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Explains the error of an execution, which any call of the coordinator may raise."""
        try:
            yield
        except Exception as error:
            # The coordinator has waited for those that ran and dropped those that had not begun.
            self._under_way, self._ended = 0, queue.SimpleQueue()
            for kind, meaning in _MEANINGS.items():
                if isinstance(error, kind):
                    error.add_note(meaning)
            raise


_EXECUTIONS: weakref.WeakKeyDictionary[Any, Executions] = weakref.WeakKeyDictionary()


def executions_of(strategy: tf.distribute.Strategy) -> Executions:
    """Returns the executions under a parameter server strategy; there is one set for each."""
    if strategy not in _EXECUTIONS:
        _EXECUTIONS[strategy] = Executions(strategy)
    return _EXECUTIONS[strategy]


def wait_until_idle(strategy: tf.distribute.Strategy) -> None:
    """Waits until no worker is in a step, so that variables are read in a consistent state.

    Args:
        strategy: Any strategy; does nothing under synchronous ones.
    """
    if strategy in _EXECUTIONS:
        _EXECUTIONS[strategy].wait_until_idle()


def busy_workers(strategy: tf.distribute.Strategy) -> dict[str, float]:
    """Returns since when workers have been in an execution; see `Executions.busy`."""
    return _EXECUTIONS[strategy].busy() if strategy in _EXECUTIONS else {}


def coordinator_of(
    strategy: tf.distribute.Strategy,
) -> tf.distribute.coordinator.ClusterCoordinator:
    """Returns the strategy's coordinator; TensorFlow keeps one for each strategy."""
    return tf.distribute.coordinator.ClusterCoordinator(strategy)


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Returns the workers of a parameter server strategy."""
    return int(strategy.extended._num_workers)  # it keeps its resolver to itself
