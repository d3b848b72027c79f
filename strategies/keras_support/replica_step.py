"""One replica's step: its share of the batch, and the user's own step function inside a context."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from strategies.global_batches import share_bounds
from strategies.keras_support.empty_share import filled, may_be_empty, metrics_kept
from strategies.keras_support.gradient_seam import reduce_with_statistics
from strategies.keras_support.model_parts import all_layers
from strategies.keras_support.step_clock import clock_of
from strategies.keras_support.step_context import StepContext, taking_step


def none_written(_: Any) -> list[Any]:
    """Says of a model that a step writes none of its variables replica by replica."""
    return []


def on_replica_function(
    model: Any, step: Callable[[Any], Any], statistics: Callable[[Any], list[Any]]
) -> Any:
    """Returns the function that `strategy.run` calls on each replica, for `(outputs, examples)`.

    Args:
        model: A Keras model under one of our strategies.
        step: `model.train_step`, `test_step` or `predict_step`.
        statistics: Names the variables of `model` that `step` writes replica by replica.
    """
    is_replicated = model.distribute_strategy.num_replicas_in_sync > 1
    is_graph_ours = not model.jit_compile or model.run_eagerly  # XLA knows no clock

    def on_replica(data: Any) -> Any:
        data = tf.nest.map_structure(_none_for_optional, data)
        written = statistics(model) if is_replicated else []
        before = [(variable, tf.identity(variable.value)) for variable in written]
        layers = tuple(all_layers(model))
        context = StepContext(_num_examples(data), before, layers)
        if is_replicated and is_graph_ours and _is_first_here():
            context.clock = clock_of(model)
        with taking_step(context), contextlib.ExitStack() as kept:
            if is_replicated and may_be_empty(data):
                data = filled(data, context.examples)
                kept.enter_context(metrics_kept(model, context.examples))
            outputs = step(data)
            if context.owes_statistics:
                reduce_with_statistics([])
        return outputs, context.examples

    if not is_graph_ours:
        return graph_function(on_replica, jit_compile=True)
    return on_replica


def _is_first_here() -> bool:
    """Tells whether this is the first of this worker's replicas, which keeps the time for all.

    Of a TPU's replicas none is: one program runs on all, and tells them apart as it runs.
    """
    replica = tf.distribute.get_replica_context()
    index = tf.get_static_value(replica.replica_id_in_sync_group)
    return index is not None and int(index) % len(replica.strategy.extended.worker_devices) == 0


def _none_for_optional(part: Any) -> Any:
    return None if isinstance(part, tf.experimental.Optional) else part


def _num_examples(data: Any) -> tf.Tensor:
    first = next(part for part in tf.nest.flatten(data) if part is not None)
    if isinstance(first, tf.RaggedTensor):
        return tf.cast(first.nrows(), tf.int32)
    rows = first.shape[0]
    return tf.constant(rows) if rows is not None else tf.shape(first)[0]


def without_static_rows(data: Any) -> Any:
    """Returns the same data, of whose number of rows a graph knows nothing."""

    def forget(part: Any) -> Any:
        if not isinstance(part, tf.Tensor) or part.shape.rank in (None, 0):
            return part
        return tf.compat.v1.placeholder_with_default(part, [None, *part.shape[1:]])

    return tf.nest.map_structure(forget, data)


def graph_function(function: Callable[..., Any], jit_compile: bool | None = None) -> Any:
    """Traces `function` once for all batch sizes; TensorFlow's own code needs no conversion."""
    return tf.function(function, reduce_retracing=True, autograph=False, jit_compile=jit_compile)


def distribute_batch(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """Hands every replica its share of a batch that lies in this process's memory."""
    batch = tf.nest.map_structure(
        lambda part: None if part is None else tf.convert_to_tensor(part), batch
    )
    rows = next(int(part.shape[0]) for part in tf.nest.flatten(batch) if part is not None)

    def share(context: Any) -> Any:
        start, stop = share_bounds(
            rows, context.replica_id_in_sync_group, context.num_replicas_in_sync
        )
        return tf.nest.map_structure(lambda part: None if part is None else part[start:stop], batch)

    return strategy.experimental_distribute_values_from_function(share)
