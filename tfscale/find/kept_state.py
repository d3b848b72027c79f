"""Keeps everything that a training changes, and puts it back to the bit.

    with kept_state(model):
        model.fit(...)
    # weights, optimizer, metrics, random layers, random state and `fit`'s own notes are as before

Each copy of a variable is kept by itself, so replicas whose copies differ (metrics) get theirs
back. A variable of which replicas keep parts is gathered, by all workers together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from strategies.extension import RandomState, assign_value, is_sharded, whole_value
from tfscale.checkpoints.state import training_variables

_NOTES = ("history", "stop_training", "steps_per_execution", "train_function")
"""Attributes of a model that `fit` sets, or that a search sets for its own `fit`."""

Array = np.ndarray[Any, Any]


@contextlib.contextmanager
def kept_state(model: Any) -> Iterator[None]:
    """Leaves a model and the process's random state as they were. All workers enter together.

    A copy of the state is in this process's memory until the end. Metrics that the training makes
    are reset.

    Args:
        model: A built and compiled Keras model.
    """
    strategy = model.distribute_strategy
    random_state = RandomState()
    kept = [
        (variable, _values(strategy, variable)) for variable in training_variables(model).values()
    ]
    try:
        with kept_notes(model):
            yield
    finally:
        _reset_new_metrics(model, {id(variable) for variable, _ in kept})
        for variable, values in kept:
            _put_back(strategy, variable, values)
        random_state.restore()


@contextlib.contextmanager
def kept_notes(model: Any) -> Iterator[None]:
    """Leaves the attributes of a model that `fit` sets as they were."""
    notes = {name: getattr(model, name) for name in _NOTES if hasattr(model, name)}
    try:
        yield
    finally:
        for name in _NOTES:
            if name in notes:
                setattr(model, name, notes[name])
            elif hasattr(model, name):
                delattr(model, name)


def _values(strategy: Any, variable: Any) -> list[Array]:
    if is_sharded(variable):
        return [np.array(whole_value(variable))]
    return [copy.numpy().copy() for copy in strategy.experimental_local_results(variable.value)]


def _put_back(strategy: Any, variable: Any, values: list[Array]) -> None:
    if is_sharded(variable):
        assign_value(strategy, variable, values[0])
        return
    copies = strategy.experimental_local_results(variable.value)
    for copy, value in zip(copies, values, strict=True):
        copy.assign(value)


def _reset_new_metrics(model: Any, known: set[int]) -> None:
    for metric in model.metrics:
        if any(id(variable) not in known for variable in metric.variables):
            metric.reset_state()
