"""Calls that all workers make: they begin, stop and fail together.

fit, evaluate and predict are collective: a call that only the chief makes waits for the others
without end (H4). So do all others if a callback stops one worker (H2), or if one raises and its
process continues (H3). Here:

* Each call begins with a rendezvous, in which workers compare the call and its arguments.
* A request to stop is shared every 16 executions and at the end of each epoch, when the models are
  compared too.
* An error on one worker is reported to all others, whose collectives end with its text.

TensorFlow reports a failed assertion with the operations around it, twice if two replicas raised
it; an assertion of this package becomes a ValueError. Any other error about sizes gets a note,
because a program with a fixed batch size fails on a replica batch.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from strategies.cluster.exit_reason import note_error
from strategies.coordination.rendezvous import exchange, report_failure
from strategies.keras_support.input.current_fit import argument_of, running_fit
from strategies.keras_support.model.outside_scope import check_model_outside
from strategies.keras_support.patching.needs import Need, require
from strategies.keras_support.patching.ownership import is_asynchronous, is_multi_worker, is_owned
from strategies.keras_support.patching.step_clock import mark_phases
from strategies.keras_support.workers.call_agreement import call_arguments, refuse_other_arguments
from strategies.keras_support.workers.chief_only import quiet_unless_chief
from strategies.keras_support.workers.state_agreement import (
    WorkerState,
    refuse_other_state,
    take_over_last_changes,
)
from strategies.progress import NoMarks, followed, phase, watched, whole_fit

STOP_EXECUTIONS = 16
"""A request to stop within an epoch takes effect after at most this many executions."""


class _Calls(threading.local):
    depth = 0


_CALLS = _Calls()


def _trains_together(strategy: Any) -> bool:
    return is_owned(strategy) and is_multi_worker(strategy)


def called_together(call: Any) -> Any:
    """Wraps `fit`, `evaluate` or `predict`."""

    @functools.wraps(call)
    def together(self: Any, *args: Any, **kwargs: Any) -> Any:
        strategy = self.distribute_strategy
        if not is_owned(strategy):
            check_model_outside(self, call, args, kwargs)
        noted: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if is_owned(strategy) and call.__name__ == "fit":
            validates = argument_of(call, "validation_data", args, kwargs) is not None
            if validates or argument_of(call, "validation_split", args, kwargs):
                require(Need.EVALUATE)  # not at the end of the first epoch
            first_epoch = int(argument_of(call, "initial_epoch", args, kwargs))  # JSON has no NumPy
            noted = running_fit(strategy, first_epoch)
        if not _trains_together(strategy):
            with contextlib.ExitStack() as around:
                around.enter_context(noted)
                if is_owned(strategy) and is_asynchronous(strategy):
                    around.enter_context(followed(NoMarks(), call.__name__))
                around.enter_context(_noted(call.__name__))
                around.enter_context(_exit_reason())
                around.enter_context(plain_refusals(strategy))
                return call(self, *args, **kwargs)
        _CALLS.depth += 1
        try:
            with _exit_reason(), followed(mark_phases(self), call.__name__):
                arguments = call_arguments(self, call, args, kwargs)
                refuse_other_arguments(exchange(strategy, f"{call.__name__}()", arguments))
                with contextlib.ExitStack() as around:
                    around.enter_context(noted)
                    around.enter_context(_noted(call.__name__))
                    around.enter_context(quiet_unless_chief(strategy))
                    around.enter_context(plain_refusals(strategy))
                    return call(self, *args, **kwargs)
        except Exception as error:
            if _CALLS.depth == 1 and not hasattr(error, "is_on_all_workers"):
                report_failure(strategy, error)
            raise
        finally:
            _CALLS.depth -= 1

    return together


@contextlib.contextmanager
def _exit_reason() -> Iterator[None]:
    """Notes for the launcher how a call ended."""
    note_error(None)
    try:
        yield
    except BaseException as error:
        note_error(error)
        raise


def _noted(name: str) -> contextlib.AbstractContextManager[None]:
    return whole_fit() if name == "fit" else phase(name)


class StopTogether(keras.callbacks.Callback):
    """Stops all workers if one is asked to stop; runs after the user's callbacks.

    It also sees changes that these made to the model, such as restoring it: models that differ are
    refused. For its place see `callback_order`.
    """

    async_safe = True

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets an earlier request to stop."""
        self._wish = False
        self._executions = 0
        refuse_other_state(self.model, with_optimizer=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves all workers with the same model."""
        take_over_last_changes(self.model)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Notes the model of a call of `evaluate`."""
        if _CALLS.depth == 1:  # not inside `fit`
            refuse_other_state(self.model, with_optimizer=False)

    def on_predict_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Notes the model of a call of `predict`."""
        if _CALLS.depth == 1:
            refuse_other_state(self.model, with_optimizer=False)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch, for workers that wait for this one."""
        progress = watched()
        if progress is not None:
            progress.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the step."""
        progress = watched()
        if progress is not None:
            progress.begin_execution(batch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Delays a request to stop until all workers know it."""
        self._executions += 1
        if self.model.stop_training:
            self._wish, self.model.stop_training = True, False
        if self._executions % STOP_EXECUTIONS == 0:
            self._agree("stop in mid-epoch?")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Shares a request to stop at the end of an epoch, such as EarlyStopping's."""
        self._wish = self._wish or self.model.stop_training
        state = WorkerState(self.model)
        texts = self._agree("stop after this epoch?", state.text())
        state.refuse_others(texts)

    def _agree(self, question: str, text: str = "") -> list[str]:
        """Shares the request to stop; returns what each worker sent with it."""
        answer = f"{int(self._wish)}{text}"
        answers = exchange(self.model.distribute_strategy, question, answer)
        self.model.stop_training = any(answer[0] == "1" for answer in answers)
        return [answer[1:] for answer in answers]


_OURS = re.compile(r"assertion failed: \[(`[^\n]*?Received: [^\n]*?\.)\]")


@contextlib.contextmanager
def plain_refusals(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns a failed assertion of this package, in a graph that runs inside, into a ValueError.

    Args:
        strategy: The model's.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = _OURS.search(str(error))
        if found is None:
            replicas = strategy.num_replicas_in_sync
            if replicas > 1:
                error.add_note(
                    f"Each of {replicas} replicas computes a part of the batch. If the model or "
                    "its step has a fixed batch size, replace it by tf.shape(x)[0]."
                )
            raise
        raise ValueError(found.group(1).replace("\\'", "'")) from error
