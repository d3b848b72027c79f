"""One replica's step: the model's step function on a replica batch, inside a step context.

With fewer rows in a global batch than replicas, some replicas have no examples. Such a replica
takes part in every collective and adds nothing. Kernels and layers do not expect a batch of no
rows: oneDNN's
max pooling aborts the process, LSTM's bias crashes, Keras's losses lose their scalar shape and
means are NaN; a lookup without an out-of-vocabulary bucket refuses what is not in its vocabulary, a
row of zeros too (C16). So it computes on a row of another replica, which has no effect: its
gradient has weight 0, its metrics are reset to their earlier values, its predictions are cut off.
If the user distributed the data there is no such row; then it is a row of zeros.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from strategies.batch_parts import Shared, has_examples, num_rows, static_rows, without_wrappers
from strategies.global_batches import EvenReplicaBatch, PaddedReplicaBatch, ReplicaBatch
from strategies.keras_support.context.lineage import Lineage, Source
from strategies.keras_support.context.step_context import StepContext, current_step, taking_step
from strategies.keras_support.gradients.gradient_watch import watched_step
from strategies.keras_support.gradients.gradients_to_apply import refuse_local_conditions
from strategies.keras_support.gradients.step_reduce import reduce_in_step
from strategies.keras_support.metrics.metric_combination import combination
from strategies.keras_support.model.checks import warn_of_padding
from strategies.keras_support.model.model_parts import all_layers, has_unbuilt_layers
from strategies.keras_support.patching.ownership import is_multi_worker
from strategies.keras_support.patching.step_clock import clock_of
from strategies.keras_support.state.layer_state import step_state


def none_written(_: Any) -> list[Any]:
    """The `statistics` of a step that writes no variable replica by replica."""
    return []


def on_replica_function(
    model: Any, step: Callable[[Any], Any], statistics: Callable[[Any], list[Any]]
) -> Any:
    """Returns the function that `strategy.run` calls on each replica, for `(outputs, examples)`.

    Args:
        model: A Keras model under a strategy of this package.
        step: `model.train_step`, `test_step` or `predict_step`.
        statistics: Names the variables of `model` that `step` writes replica by replica.
    """
    is_replicated = model.distribute_strategy.num_replicas_in_sync > 1
    name = getattr(step, "__name__", "")
    is_graph_ours = not model.jit_compile or model.run_eagerly  # XLA knows no clock

    def on_replica(batch: Any) -> Any:
        replica_batch = _as_replica_batch(batch)
        if isinstance(batch, PaddedReplicaBatch) and name != "predict_step":
            warn_of_padding(model, is_training=name == "train_step")
        state = step_state(model, statistics(model)) if is_replicated else None
        context = StepContext(
            replica_batch.examples,
            all_examples=replica_batch.all_examples,
            padded_rows=num_rows(batch.data) if isinstance(batch, PaddedReplicaBatch) else None,
            state=state,
            layers=tuple(all_layers(model)),
            batch=replica_batch.data,
            shared_loss_tracker=model._loss_tracker
            if _is_shared_first(replica_batch.data)
            else None,
        )
        if state is not None:
            context.lineage = Lineage((replica_batch.data, replica_batch.examples), state.source_of)
            context.lineage.mark(_shared_tensors(replica_batch), Source.SHARED)
        if is_replicated and is_graph_ours and _is_first_here():
            context.clock = clock_of(model)
        with taking_step(context), watched_step(context), contextlib.ExitStack() as kept:
            if is_replicated:
                kept.enter_context(context.lineage.watching())
            if is_replicated and may_be_empty(batch):
                kept.enter_context(metrics_kept(model, context.examples))
            outputs = step(without_wrappers(replica_batch.data))
            if state is not None and state.is_owing:
                reduce_in_step([])
            refuse_local_conditions(context)
        return outputs, context.examples

    if not is_graph_ours:
        return graph_function(on_replica, jit_compile=True)
    return on_replica


def _is_first_here() -> bool:
    """Tells whether this is the first of this worker's replicas, which measures time for all.

    On a TPU none is: one program runs on all replicas, and distinguishes them at run time.
    """
    replica = tf.distribute.get_replica_context()
    index = tf.get_static_value(replica.replica_id_in_sync_group)
    return index is not None and int(index) % len(replica.strategy.extended.worker_devices) == 0


def _as_replica_batch(batch: Any) -> ReplicaBatch:
    """Returns the input of a replica as a `ReplicaBatch` of at least one row."""
    replica = tf.distribute.get_replica_context()
    replicas = replica.num_replicas_in_sync
    if isinstance(batch, EvenReplicaBatch):
        rows = _rows_of(batch.data)
        known = tf.get_static_value(rows)
        every = rows * replicas if known is None else tf.constant(known * replicas)
        return ReplicaBatch(batch.data, rows, every)
    if isinstance(batch, ReplicaBatch) and not is_multi_worker(replica.strategy):
        return batch
    # Data that the user distributed, or TensorFlow's filler for a worker without further data.
    data = batch.data if isinstance(batch, ReplicaBatch) else batch
    rows = _rows_of(data)
    if replicas > 1 and may_be_empty(batch):
        data = filled(data, rows)
    if isinstance(batch, ReplicaBatch):
        return ReplicaBatch(data, batch.examples, batch.all_examples)
    return ReplicaBatch(data, rows, rows if replicas == 1 else None)


def _is_shared_first(data: Any) -> bool:
    """Tells whether all examples share the part of the inputs by whose rows Keras weighs a loss."""
    inputs = data[0] if isinstance(data, tuple) else data
    parts = [part for part in keras.tree.flatten(inputs) if part is not None]
    return bool(parts) and isinstance(parts[0], Shared)


def _rows_of(data: Any) -> tf.Tensor:
    known = static_rows(data)
    return tf.cast(num_rows(data), tf.int32) if known is None else tf.constant(known)


def _shared_tensors(replica_batch: ReplicaBatch) -> list[Any]:
    """The tensors of a replica batch that are equal on all replicas."""
    parts = [part for part in tf.nest.flatten(replica_batch.data) if not has_examples(part)]
    parts = without_wrappers([*parts, replica_batch.all_examples])
    return list(tf.nest.flatten(parts, expand_composites=True))


def without_static_rows(data: Any) -> Any:
    """Returns the same data without a static number of rows."""

    def forget(part: Any) -> Any:
        if not isinstance(part, tf.Tensor) or part.shape.rank in (None, 0):
            return part
        return tf.compat.v1.placeholder_with_default(part, [None, *part.shape[1:]])

    return tf.nest.map_structure(forget, data)


def graph_function(function: Callable[..., Any], jit_compile: bool | None = None) -> Any:
    """Traces `function` once for all batch sizes; TensorFlow's own code needs no conversion."""
    return tf.function(function, reduce_retracing=True, autograph=False, jit_compile=jit_compile)


def built_first(
    model: Any, function: Callable[..., Any], step: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Wraps `function`: before its first run, variables that `model` still lacks are made.

    A step needs to know the model's layers before it begins. If they are made in the step, it is
    traced once only for that.

    Args:
        model: A Keras model under a strategy of this package.
        function: Takes a step, or several.
        step: Takes a step with the same arguments, and is not traced itself; for a `function` that
            calls a traced one.
    """
    run = function if model.run_eagerly else _bound_once(graph_function(function))
    is_first = True

    def run_built(*arguments: Any) -> Any:
        nonlocal is_first
        if is_first and has_unbuilt_layers(model):
            # A step that runs eagerly may be one that cannot be traced.
            with contextlib.suppress(*[Exception] if model.run_eagerly else []):
                graph_function(step or function).get_concrete_function(*arguments)
        is_first = False
        return run(*arguments)

    return run_built


def _bound_once(function: Any) -> Callable[..., Any]:
    """Returns `function`, which binds its arguments once for each stream that it reads.

    To find the graph for its arguments, a `tf.function` compares the types of all variables in it
    at each call: 0.05 ms of 0.14 ms with 13 variables, 0.15 of 0.40 ms with 300 (TensorFlow 2.21).

    Args:
        function: A `tf.function` of a stream, and tensors of one type.
    """
    calls = 0
    known: Callable[[], Any] = object  # a weak reference, since a stream holds batches
    concrete: Any = None

    def bound(stream: Any, *counts: tf.Tensor) -> Any:
        nonlocal calls, known, concrete
        is_plain = isinstance(stream, tf.data.Iterator)
        if not is_plain or tf.config.functions_run_eagerly():
            return function(stream, *counts)
        if known() is not stream:
            calls, known, concrete = 0, weakref.ref(stream), None
        calls += 1
        if calls == 1:
            return function(stream, *counts)
        if concrete is None:
            concrete = function.get_concrete_function(stream, *counts)
        return concrete(stream, *counts)

    return bound


def may_be_empty(batch: Any) -> bool:
    """Tells whether a replica with this input may have no examples."""
    if isinstance(batch, EvenReplicaBatch):
        return False
    return isinstance(batch, ReplicaBatch) or not static_rows(batch)


def filled(data: Any, examples: tf.Tensor) -> Any:
    """Returns `data`, or one row of zeros (of empty strings) where `examples` is zero.

    Args:
        data: A replica batch. Ragged and sparse parts are left as they are.
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
    """Restores the model's metrics after a step without examples.

    Args:
        model: A Keras model; metrics made outside the scope stay as they are.
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
