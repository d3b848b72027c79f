"""The train function that Keras's loop calls, and when it may take several steps in one call.

`input.execution_size` measures how many. What changes is when Python runs between steps, so it is
done only if no callback would notice:

* `compile` was called without `steps_per_execution`. `compile(steps_per_execution=1)` takes single
  steps, as does `model.steps_per_execution = 1`.
* No callback has a hook for batches, except Keras's progress bar, ModelCheckpoint and
  BackupAndRestore with `save_freq="epoch"`, and those with `needs_every_batch = False`.
* The strategy trains in this process, on CPUs or GPUs; the model is not run eagerly; and its train
  function is not wrapped.
* The number of batches of an epoch is known. No batch is read ahead of its step. Input that may end
  earlier needs Keras's own `train_step`: the logs of another one would be lost with the execution.
* A step takes at most 5 ms, so that Keras's cost matters, and enough steps are left to earn back
  what the first execution of several steps costs.
* The step has no random operation that keeps its state outside of variables, such as
  `tf.random.normal`, because its numbers would begin again; and gathers nothing of varying size.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras

from strategies.devices import all_on
from strategies.keras_support.input.current_fit import running_fit_of
from strategies.keras_support.input.execution_size import ExecutionSize
from strategies.keras_support.model.scope import leaves_execution_size_open
from strategies.keras_support.patching.ownership import is_asynchronous, is_multi_worker
from strategies.keras_support.step.microbatch_count import microbatches_of
from strategies.keras_support.step.microbatches import is_standard
from strategies.keras_support.step.step_functions import Logs
from strategies.progress import phase

_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
_CALLED_BY_EPOCH = (keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore)
_LAST: weakref.WeakKeyDictionary[Any, ExecutionSize] = weakref.WeakKeyDictionary()


class TrainFunction:
    """The train function of this package: takes an execution, returns logs.

    Args:
        function: Takes the steps of an execution.
        microbatches: Those of a replica batch in its steps.
    """

    def __init__(self, function: Callable[[Any], Logs], microbatches: int = 1) -> None:
        self._function = function
        self._microbatches = microbatches

    def __call__(self, execution: Any) -> Logs:
        """Takes the steps of an execution."""
        size: ExecutionSize | None = getattr(execution, "size", None)
        with phase("step"):
            if size is None:
                return self._function(execution)
            logs: Logs = size.timed(self._function, execution)
            return logs

    def fits(self, model: Any) -> bool:
        """Tells whether it computes as many microbatches as `model` is to have now."""
        return self._microbatches == microbatches_of(model)


def is_outdated(model: Any, function: Any) -> bool:
    """Tells whether a model's train function must be made again, with other microbatches."""
    return isinstance(function, TrainFunction) and not function.fits(model)


def remake_train_function(model: Any) -> None:
    """Makes a model's train function again, unless it has the microbatches of the current `fit`."""
    function = model.train_function
    if not isinstance(function, TrainFunction) or is_outdated(model, function):
        model.make_train_function(force=True)


def choose_execution_size(model: Any, params: dict[str, Any], callbacks: Sequence[Any]) -> None:
    """Lets the `fit` that is beginning choose its executions, if it may.

    Args:
        model: A compiled model under a strategy of this package.
        params: Of its callbacks.
        callbacks: All callbacks of the `fit`.
    """
    running = running_fit_of(model.distribute_strategy)
    if running is None or running.iterator is None:
        return
    steps = running.iterator.steps_in_epoch()
    reason = _reason_for_single_steps(model, callbacks)
    if reason is None and not isinstance(model.train_function, TrainFunction):
        reason = "the train function is not tfscale's"
    if reason is None and steps is None:
        reason = "the number of batches is not known"
    if reason is None and not is_standard(model.train_step) and running.iterator.may_end_early():
        reason = "the input may end early, and train_step returns logs of one step"
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


def last_execution_size(strategy: Any) -> ExecutionSize | None:
    """Returns what chooses the executions of the newest `fit` under a strategy, or None."""
    return _LAST.get(strategy)


def _reason_for_single_steps(model: Any, callbacks: Sequence[Any]) -> str | None:
    strategy = model.distribute_strategy
    if not leaves_execution_size_open(model):
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
    hooks = {name: getattr(callback, name, None) for name in _HOOKS}  # None: Keras takes any class
    return any(
        hook is not None and getattr(hook, "__func__", None) is not getattr(base, name)
        for name, hook in hooks.items()
    )
