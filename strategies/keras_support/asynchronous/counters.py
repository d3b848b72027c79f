"""Counters that several workers increase at the same time without losing updates.

Keras implements `assign_add` as `assign(self + value)`, and so do many metrics. An addition of
another worker between the read and the write is lost (S14). On a parameter server
TensorFlow's own `assign_add` keeps the variable's lock from the read to the write.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common.stateless_scope import in_stateless_scope

from strategies.keras_support.patching.ownership import is_on_server


def added_in_one_operation(method: Any) -> Any:
    """Wraps `assign_add` or `assign_sub` of Keras's variables."""

    @functools.wraps(method)
    def assign(self: Any, value: Any) -> Any:
        if in_stateless_scope() or not is_on_server(self):
            return method(self, value)
        native = getattr(self._value, method.__name__)
        native(tf.cast(self._convert_to_tensor(value, dtype=self._dtype), self._value.dtype))
        return tf.convert_to_tensor(self._value)

    return assign


@contextlib.contextmanager
def metrics_that_add(model: Any) -> Iterator[None]:
    """Lets the model's metrics add the change by a batch, instead of assigning a sum.

    A metric updates copies of its variables, and the differences are added to the variables. That
    is exact for state that is a sum over batches, as in all of Keras's metrics.

    Args:
        model: A compiled model whose step is being traced.
    """
    with contextlib.ExitStack() as restored:
        for metric in model.metrics:
            for part in getattr(metric, "metrics", None) or [metric]:  # compile keeps them in one
                restored.enter_context(_adding(part))
        yield


@contextlib.contextmanager
def _adding(metric: Any) -> Iterator[None]:
    update_state = metric.update_state

    @functools.wraps(update_state)
    def add(*args: Any, **kwargs: Any) -> None:
        variables = list(metric.variables)
        before = [tf.identity(variable.value) for variable in variables]
        with keras.StatelessScope(state_mapping=zip(variables, before, strict=True)) as scope:
            update_state(*args, **kwargs)
        for variable, old in zip(variables, before, strict=True):
            new = scope.get_current_value(variable)
            if new is not None and new is not old:
                variable.assign_add(tf.cast(new, old.dtype) - old)

    # Not by setattr: Keras looks for layers and variables in what is set.
    vars(metric)["update_state"] = add
    try:
        yield
    finally:
        del vars(metric)["update_state"]
