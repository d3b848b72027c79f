"""How many steps an execution takes if `compile` was not given `steps_per_execution`.

Between two executions Keras's loop and its callbacks cost 0.2 to 0.4 ms, whatever the model. If the
steps of a `fit` are short, several of them are executed in one call of the train function: as
`compile(steps_per_execution=)` does, but with the number measured. The numbers of a training do not
change, because the same traced step runs the same times. What changes is when Python runs, so this
is done only if no callback would notice:

* `compile` was called without `steps_per_execution`. `compile(steps_per_execution=1)` takes single
  steps.
* No callback has a hook for batches, except Keras's progress bar, ModelCheckpoint and
  BackupAndRestore with `save_freq="epoch"`, and those with `needs_every_batch = False`.
* The strategy trains in this process, on CPUs or GPUs; the model is not run eagerly; nobody has
  wrapped the train function.
* The number of batches of an epoch is known. No batch is read ahead of its step.
* A step takes at most 5 ms, so that Keras's cost matters, and enough steps are left to earn back
  what the first execution of several steps costs.
* The step has no random operation that keeps its state outside of variables, such as
  `tf.random.normal`, because its numbers would begin again; and gathers nothing of varying size.

An execution takes about 20 ms. So a request to stop, Ctrl-C or a signal waits so much longer, and
the progress bar, which is drawn every 50 ms, looks the same.
"""

from __future__ import annotations

import collections
import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from strategies.devices import all_on
from strategies.keras_support.input.current_fit import running_fit_of
from strategies.keras_support.model.scope import leaves_execution_size_open
from strategies.keras_support.patching.ownership import is_asynchronous, is_multi_worker

EXECUTION_SECONDS = 0.02
"""How long an execution of several steps takes."""

LONGEST_STEP_SECONDS = 0.005
"""Steps that take longer are executed one by one."""

SAVED_SECONDS = 0.0003
"""What Keras's loop costs between two executions."""

_SINGLE_STEPS = 4
_REMEMBERED = 8

_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
_CALLED_BY_EPOCH = (keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore)


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
        if len(self._step_seconds) < _SINGLE_STEPS:
            return
        usual = statistics.median(self._step_seconds)
        if not self._has_grouped:
            if usual > LONGEST_STEP_SECONDS:
                self.keep(1, f"a step takes {1e3 * usual:.1f} ms")
                return
            if self._left * SAVED_SECONDS < self._first_seconds:
                self.keep(1, f"only {self._left} steps are left")
                return
        self.steps = max(1, round(EXECUTION_SECONDS / usual))
        self.reason = f"a step takes {1e3 * usual:.2g} ms"


def _await(logs: Any) -> None:
    for value in tf.nest.flatten(logs):
        if tf.is_tensor(value):
            value.numpy()
            return


def choose_execution_size(
    model: Any, params: dict[str, Any], callbacks: Sequence[Any], *, is_own_function: bool
) -> None:
    """Lets the `fit` that is beginning choose its executions, if it may.

    Args:
        model: A compiled model under a strategy of this package.
        params: Of its callbacks.
        callbacks: All callbacks of the `fit`.
        is_own_function: Whether Keras's loop calls the train function of this package.
    """
    running = running_fit_of(model.distribute_strategy)
    if running is None or running.iterator is None:
        return
    steps = running.iterator.steps_in_epoch()
    reason = _reason_for_single_steps(model, callbacks)
    if reason is None and not is_own_function:
        reason = "the train function is not tfscale's"
    if reason is None and steps is None:
        reason = "the number of batches is not known"
    epochs = int(params.get("epochs") or 1) - (model._initial_epoch or running.initial_epoch)
    size = ExecutionSize(
        (steps or 0) * epochs,
        is_asynchronous_device=not all_on("CPU", model.distribute_strategy),
    )
    _LAST[model.distribute_strategy] = size
    if reason is None:
        running.iterator.execution_size = size
    else:
        size.keep(model.steps_per_execution, reason)


_LAST: weakref.WeakKeyDictionary[Any, ExecutionSize] = weakref.WeakKeyDictionary()


def last_execution_size(strategy: Any) -> ExecutionSize | None:
    """Returns what chooses the executions of the newest `fit` under a strategy, or None."""
    return _LAST.get(strategy)


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


def _reason_for_single_steps(model: Any, callbacks: Sequence[Any]) -> str | None:
    strategy = model.distribute_strategy
    if not leaves_execution_size_open(model) or model.steps_per_execution != 1:
        return "as compiled"
    if model.run_eagerly:
        return "the model is run eagerly"
    if is_asynchronous(strategy) or is_multi_worker(strategy):
        return "there are several workers"
    if not (all_on("CPU", strategy) or all_on("GPU", strategy)):
        return "the devices are neither CPUs nor GPUs"
    watching = [type(each).__name__ for each in callbacks if _watches_batches(each)]
    return f"{', '.join(watching)} is called after each batch" if watching else None


def _watches_batches(callback: Any) -> bool:
    if type(callback) is keras.callbacks.ProgbarLogger:
        return False
    if not getattr(callback, "needs_every_batch", True):
        return False
    if type(callback) in _CALLED_BY_EPOCH and callback.save_freq == "epoch":
        return False
    base = keras.callbacks.Callback
    return any(
        getattr(getattr(callback, hook), "__func__", None) is not getattr(base, hook)
        for hook in _HOOKS
    )
