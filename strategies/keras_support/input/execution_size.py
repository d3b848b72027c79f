"""How many steps an execution takes if `compile` was not given `steps_per_execution`.

Between two executions Keras's loop and its callbacks cost 0.2 to 0.4 ms, whatever the model. If the
steps of a `fit` are short, several of them are executed in one call of the train function: as
`compile(steps_per_execution=)` does, but with the number measured. The numbers of a training do not
change, because the same traced step runs the same times. What changes is when Python runs: for when
this is done, see `step.train_function`.

An execution takes about 20 ms. So a request to stop, Ctrl-C or a signal waits so much longer, and
the progress bar, which is drawn every 50 ms, looks the same.
"""

from __future__ import annotations

import collections
import statistics
import time
from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

EXECUTION_SECONDS = 0.02
"""How long an execution of several steps takes."""

LONGEST_STEP_SECONDS = 0.005
"""Steps that take longer are executed one by one."""

SAVED_SECONDS = 0.0003
"""What Keras's loop costs between two executions."""

_SECOND_FUNCTION = 0.6  # what making the function of several steps costs, of the first execution
_SINGLE_STEPS = 4
_MOST_SINGLE_STEPS = 64  # the first ones may be slow because the machine is busy with the start
_REMEMBERED = 8


class _Execution(Protocol):
    count: int | None


class ExecutionSize:
    """Chooses the steps of each execution of one `fit` by the time that steps take.

    The first execution is traced, the next ones measure single steps. Each later one is measured
    too, so that a phase of longer steps has smaller executions.

    Args:
        num_steps: Steps that the `fit` will take.
        is_asynchronous_device: Whether a call may return before its steps have finished, as on a
            GPU. Then the logs are awaited for each measurement.
        clock: Returns seconds.

    Attributes:
        steps: Steps of the next execution.
        reason: Why executions have the size they have, as a phrase.
    """

    def __init__(
        self,
        num_steps: int,
        *,
        is_asynchronous_device: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.steps = 1
        self.reason = "not measured yet"
        self._left = num_steps
        self._awaits = is_asynchronous_device
        self._clock = clock
        self._first_seconds: float | None = None
        self._step_seconds: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._measured = 0
        self._is_settled = False
        self._has_grouped = False

    def __str__(self) -> str:
        return f"{self.steps} ({self.reason})"

    def timed(self, run: Callable[[Any], Any], execution: _Execution) -> Any:
        """Runs an execution and learns from its time; returns what `run` returns."""
        if self._is_settled or execution.count is None:
            return run(execution)
        began = self._clock()
        logs = run(execution)
        if self._awaits:
            _await(logs)
        self._took(execution.count, self._clock() - began)
        return logs

    def keep(self, steps: int, reason: str) -> None:
        """Takes so many steps from now on, whatever their time."""
        self.steps, self.reason, self._is_settled = steps, reason, True

    def _took(self, count: int, seconds: float) -> None:
        self._left -= count
        if self._is_settled:
            return
        if self._first_seconds is None:
            self._first_seconds = seconds
            return
        if count > 1 and not self._has_grouped:  # its first call instantiates a function
            self._has_grouped = True
            return
        self._step_seconds.append(seconds / count)
        self._measured += 1
        if len(self._step_seconds) < _SINGLE_STEPS:
            return
        usual = statistics.median(self._step_seconds)
        if not self._has_grouped:
            if usual > LONGEST_STEP_SECONDS:
                self.reason = f"a step takes {1e3 * usual:.2g} ms"
                self._is_settled = self._measured >= _MOST_SINGLE_STEPS
                return
            if self._left * SAVED_SECONDS < _SECOND_FUNCTION * self._first_seconds:
                self.keep(1, f"only {self._left} steps are left")
                return
        self.steps = max(1, round(EXECUTION_SECONDS / usual))
        self.reason = f"a step takes {1e3 * usual:.2g} ms"


def _await(logs: Any) -> None:
    for value in tf.nest.flatten(logs):
        if tf.is_tensor(value):
            value.numpy()
            return


def reason_in_graph(graph: Any) -> str:
    """Returns why steps of this graph cannot be executed together, or an empty string.

    Args:
        graph: The `tf.Graph` of a traced step.
    """
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    for node in nodes:
        if "seed2" in node.attr:  # a generator in the kernel; Keras's are variables
            return f"{node.op} keeps its random state in the operation"
        if node.op.startswith("CollectiveGather"):
            return "gradients of varying size are gathered"
    return ""
