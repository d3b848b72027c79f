"""Chooses the code for a model: Keras's own, synchronous training, or parameter servers.

A patch often chooses between sub-packages that must not import each other. Such choices are made
here, above these sub-packages and below the table of patches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from strategies.batch_parts import as_element, has_shared, without_wrappers
from strategies.cluster.chief import is_chief
from strategies.half_precision_outputs import warn_of_half_precision
from strategies.keras_support.asynchronous.epoch import AsynchronousEpochIterator
from strategies.keras_support.asynchronous.train_function import asynchronous_train_function
from strategies.keras_support.input.current_fit import fit_awaits_input
from strategies.keras_support.input.epoch_iterator import ReplicaEpochIterator
from strategies.keras_support.local_sgd import LocalTraining
from strategies.keras_support.model.checks import refuse_owned_parts
from strategies.keras_support.patching.ownership import is_asynchronous, is_owned
from strategies.keras_support.patching.patch import require_not_undone
from strategies.keras_support.pipeline.staged_steps import (
    predict_step_of,
    test_step_of,
    training_step_of,
)
from strategies.keras_support.sharding.stages import divisions
from strategies.keras_support.state.batch_norm import moving_statistics
from strategies.keras_support.step.microbatch_count import microbatches_of
from strategies.keras_support.step.replica_step import none_written
from strategies.keras_support.step.step_functions import Logs, predict_function, step_function
from strategies.keras_support.step.train_function import TrainFunction, is_outdated


def epoch_iterator_of_strategy(tf_epoch_iterator: Any) -> Any:
    """Replaces Keras's class of epoch iterators."""

    @functools.wraps(tf_epoch_iterator, updated=())
    def epoch_iterator(distribute_strategy: Any = None, **arguments: Any) -> Any:
        # Parameter servers: only `fit` runs on workers, evaluate and predict on the chief.
        is_fit = fit_awaits_input(distribute_strategy)
        if is_owned(distribute_strategy) and is_asynchronous(distribute_strategy) and is_fit:
            return AsynchronousEpochIterator(distribute_strategy, **arguments)
        if is_owned(distribute_strategy):
            return ReplicaEpochIterator(distribute_strategy, **arguments)
        x = arguments.get("x")
        if isinstance(x, tf.data.Dataset) and has_shared(x.element_spec):
            arguments["x"] = x.map(lambda *batch: without_wrappers(as_element(x, batch)))
        return tf_epoch_iterator(distribute_strategy=distribute_strategy, **arguments)

    return epoch_iterator


def _made_for_strategy(
    attribute: str,
    build: Callable[[Any], Any],
    check_others: Callable[[Any], None] | None = None,
) -> Callable[[Any], Any]:
    """Returns the replacement of a `make_..._function`, which stores the function in `attribute`.

    It does what Keras's `_make_function` does, in another way.

    Models under other strategies go to Keras's own, after `check_others`.
    """

    def wrap(make_function: Any) -> Any:
        @functools.wraps(make_function)
        def make(self: Any, force: bool = False) -> Any:
            known = getattr(self, attribute)
            # Its graph reads parameters as they were divided when it was made.
            is_old = force or getattr(known, "divisions", divisions()) != divisions()
            if not is_owned(self.distribute_strategy):
                if check_others is not None:
                    check_others(self)
                make_function(self, force=is_old)
            elif known is None or is_old or is_outdated(self, known):
                require_not_undone()
                made = build(self)
                if isinstance(known, LocalTraining):  # goes on, with a step that is traced again
                    known.replace_step(made)
                else:
                    setattr(self, attribute, made)
            made = getattr(self, attribute)
            if made is not known:
                made.divisions = divisions()
            return made

        return make

    return wrap


def _train_function(model: Any) -> Callable[[Any], Logs]:
    strategy = model.distribute_strategy
    if is_chief(strategy):
        warn_of_half_precision(model)
    make_synchronous = functools.partial(
        step_function, model, training_step_of(model), moving_statistics
    )
    if is_asynchronous(strategy):
        function = asynchronous_train_function(model, make_synchronous)
    else:
        function = make_synchronous()

    return TrainFunction(function, microbatches_of(model))


def _test_function(model: Any) -> Callable[[Any], Logs]:
    return step_function(model, test_step_of(model), none_written)


def _predict_function(model: Any) -> Callable[[list[Any]], Any]:
    return predict_function(model, predict_step_of(model))


made_train_function = _made_for_strategy("train_function", _train_function, refuse_owned_parts)
made_test_function = _made_for_strategy("test_function", _test_function)
made_predict_function = _made_for_strategy("predict_function", _predict_function)
