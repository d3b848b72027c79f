"""The step clock: marks in the graph record when a step reads input and when it waits.

A worker's batches are read inside the graph of its step, and replicas exchange gradients there too:
Python sees one call. So with several workers, or with a Watchdog, a model's functions are traced
with marks, which a thread can read in the middle of an execution. A mark adds `now` to a sum where
a phase ends and subtracts it where the phase begins: a sum below zero is a phase that is running,
any other is the seconds spent in it. If seconds are not needed, `now` is 1. No data flows through a
mark, so results do not change.

Two phases are four marks a step, of one small operation each, or three or four where they measure
time. Inside a step that XLA compiles there are none: there, waiting counts as the step. On GPUs a
collective is over for a mark once its kernel has started.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf
from tensorflow.python.framework import config
from tensorflow.python.ops.resource_variable_ops import ResourceVariable

from strategies.progress import Marks

_INPUT, _COLLECTIVE = 0, 1
_Result = TypeVar("_Result")


class StepClock:
    """The marks of one model's functions on this worker.

    Args:
        is_timed: Whether seconds are measured, or only the current phase.
    """

    def __init__(self, is_timed: bool) -> None:
        self.is_timed = is_timed
        # Not a tf.Variable, because a strategy's scope would make a copy for each replica.
        with tf.init_scope(), tf.device("CPU:0"):
            self._sums = ResourceVariable(tf.zeros([4], tf.float64), trainable=False)

    def read(self) -> Marks:
        """Returns the marks as they are now; may be called from any thread."""
        with tf.init_scope():
            reading, waiting, batches, examples = self._sums.numpy().tolist()
        return Marks(reading, waiting, int(batches), int(examples))

    def reset(self) -> None:
        """Ends every phase and forgets its seconds; batches are still counted."""
        with tf.init_scope():
            self._sums.assign(self._sums * [0.0, 0.0, 1.0, 1.0])

    def around_input(
        self, read: Callable[[], _Result], examples: Callable[[_Result], Any] | None = None
    ) -> _Result:
        """Runs `read`, which takes the replica batches of a step, between two marks.

        Args:
            read: Returns the replica batches.
            examples: Returns how many examples of this worker they have, a scalar.
        """
        return self._around(_INPUT, read, after=(), examples=examples)

    def around_collective(self, reduce: Callable[[], _Result], after: Any) -> _Result:
        """Runs `reduce`, in which replicas wait for each other, between two marks.

        Args:
            reduce: Returns tensors, or structures of them.
            after: What must be computed before this worker is ready for it.
        """
        return self._around(_COLLECTIVE, reduce, after)

    def _around(
        self,
        place: int,
        run: Callable[[], _Result],
        after: Any,
        examples: Callable[[_Result], Any] | None = None,
    ) -> _Result:
        one = [float(place == _INPUT), float(place == _COLLECTIVE), 0.0, 0.0]
        # tf.function itself keeps the writes of one variable in their order.
        self._add(after, [-part for part in one], [0.0, 0.0, 0.0])
        result = run()
        read = examples(result) if examples is not None and self.is_timed else None
        self._add(result, one, [0.0, 0.0, float(place == _INPUT)], read)
        return result

    def _add(self, after: Any, now: list[float], more: list[float], examples: Any = None) -> None:
        parts = [part for part in _tensors(after) if not isinstance(part, tf.Variable)]
        with tf.control_dependencies(parts), tf.device(self._sums.device):
            if self.is_timed:
                moment = _now() * tf.constant(now, tf.float64)
                if examples is not None:
                    moment += tf.stack([*map(_scalar, more), _scalar(examples)])
                elif any(more):
                    moment += tf.constant([*more, 0.0], tf.float64)
            else:
                sums = [a + b for a, b in zip(now, [*more, 0.0], strict=True)]
                moment = tf.constant(sums, tf.float64)
            self._sums.assign_add(moment, read_value=False)


def _scalar(value: Any) -> tf.Tensor:
    return tf.cast(value, tf.float64)


def _now() -> tf.Tensor:
    """The time in seconds, when the operation runs."""
    if not config.is_op_determinism_enabled():
        return tf.timestamp()
    # tf.timestamp is refused there, for its value differs from run to run. No number depends on it.
    now: tf.Tensor = tf.numpy_function(time.time, [], tf.float64)
    return tf.ensure_shape(now, [])


def _tensors(structure: Any) -> list[Any]:
    """Returns the tensors of a structure; of a distributed value, those of this worker."""
    found: list[Any] = []
    for part in tf.nest.flatten(structure):
        values = getattr(part, "values", None)
        own = values if isinstance(part, tf.distribute.DistributedValues) else (part,)
        found += [t for t in tf.nest.flatten(own, expand_composites=True) if tf.is_tensor(t)]
    return found


_CLOCKS: weakref.WeakKeyDictionary[Any, StepClock] = weakref.WeakKeyDictionary()


def clock_of(model: Any) -> StepClock | None:
    """Returns the clock that the functions of `model` are traced with, if it has one."""
    return _CLOCKS.get(model)


def mark_phases(model: Any) -> StepClock:
    """Returns the clock of `model`, whose functions are traced with it from now on.

    An existing clock is kept. A function that was made before has no marks: there, input and
    waiting count as the step.

    Args:
        model: A compiled model under a strategy of this package.
    """
    if model not in _CLOCKS:
        _CLOCKS[model] = StepClock(is_timed=False)
    return _CLOCKS[model]


def attach_clock(model: Any) -> StepClock:
    """Traces the functions of `model` with a clock that measures seconds, from 0.

    Args:
        model: A compiled model under a strategy of this package.
    """
    clock = _CLOCKS.get(model)
    if clock is None or not clock.is_timed:
        clock = _CLOCKS[model] = StepClock(is_timed=True)
        model.make_train_function(force=True)
        model.make_test_function(force=True)
    clock.reset()
    return clock
