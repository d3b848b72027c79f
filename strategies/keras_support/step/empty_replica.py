"""A replica without examples: it takes its part in every collective and adds nothing.

A batch of fewer rows than replicas leaves some without. Kernels and layers do not expect a batch of
no rows: oneDNN's max pooling aborts the process, LSTM's bias crashes, Keras's losses lose their
scalar shape and means are NaN; a lookup without an out-of-vocabulary bucket refuses what is not in
its vocabulary, a row of zeros too (C16). So such a replica computes on a row of another replica's
that counts for nothing: its gradient weighs 0, its metrics are put back, its predictions are cut
off. Data that the user distributed have no such row to give; there it is a row of zeros.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from strategies.batch_parts import static_rows
from strategies.global_batches import EvenShare, Share
from strategies.keras_support.context.step_context import current_step
from strategies.keras_support.metrics.metric_combination import combination


def may_be_empty(batch: Any) -> bool:
    """Tells whether a replica that is given this may hold no examples of its own."""
    if isinstance(batch, EvenShare):
        return False
    return isinstance(batch, Share) or not static_rows(batch)


def filled(data: Any, examples: tf.Tensor) -> Any:
    """Returns `data`, or one row of zeros (of empty strings) where `examples` is zero.

    Args:
        data: A replica's share. Ragged and sparse parts are left as they are.
        examples: int32 scalar, the rows of `data`.
    """

    def fill(part: Any) -> Any:
        if not isinstance(part, tf.Tensor) or part.shape.rank in (None, 0):
            return part

        def zeros() -> tf.Tensor:
            return tf.zeros(tf.concat([[1], tf.shape(part)[1:]], axis=0), part.dtype)

        row = tf.cond(examples > 0, lambda: part, zeros)
        return tf.ensure_shape(row, [None, *part.shape[1:]])

    return tf.nest.map_structure(fill, data)


@contextlib.contextmanager
def metrics_kept(model: Any, examples: tf.Tensor) -> Iterator[None]:
    """Puts the model's metrics back after a step that held no examples.

    Args:
        model: A Keras model; metrics made outside the scope are shared by replicas and left alone.
        examples: int32 scalar.
    """
    variables = [
        variable
        for variable in model.metrics_variables
        if isinstance(variable._value, tf.distribute.DistributedValues)
    ]
    before = [tf.identity(variable.value) for variable in variables]
    yield
    step = current_step()
    unlisted = [] if step is None else [kept for each in step.trackers.values() for kept in each]
    for variable, value in (*zip(variables, before, strict=True), *unlisted):
        if combination(variable) in ("first", "mean"):  # the same on all replicas by now
            continue
        variable.assign(tf.where(examples > 0, variable.value, value))


def cut_off(outputs: Any, examples: tf.Tensor) -> Any:
    """Returns the first `examples` rows of what a model predicted."""
    return tf.nest.map_structure(lambda rows: rows[:examples], outputs)
