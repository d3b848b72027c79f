"""Whole values for a worker that writes alone.

Only the chief writes files, but reading a sharded variable is a call of all workers. So all of them
gather the values first, and the chief reads what was gathered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from strategies.cluster.chief import is_chief
from strategies.keras_support.patching.ownership import is_multi_worker
from strategies.keras_support.sharding.sharded_value import is_sharded


def all_variables(model: Any) -> list[Any]:
    """Returns the variables of a model and of its optimizer."""
    optimizer = getattr(model, "optimizer", None)
    return [*model.variables, *getattr(optimizer, "variables", ())]


def whole_value(variable: Any) -> np.ndarray[Any, Any]:
    """Returns the value of a sharded Keras variable. Several workers call it together."""
    value: np.ndarray[Any, Any] = variable._value.numpy()
    return value


@contextlib.contextmanager
def readable_on_chief(variables: Iterable[Any]) -> Iterator[None]:
    """Lets the chief read sharded variables by itself. All workers enter together.

    Each value is in the chief's memory until the end.

    Args:
        variables: Keras variables, sharded or not.
    """
    values = [v._value for v in variables if is_sharded(v)]
    values = [value for value in values if is_multi_worker(value.distribute_strategy)]
    try:
        for value in values:
            whole = value.numpy()
            if is_chief(value.distribute_strategy):
                value.snapshot = whole
        yield
    finally:
        for value in values:
            value.snapshot = None
