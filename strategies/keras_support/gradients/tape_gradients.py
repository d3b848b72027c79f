"""Gradients in a step: `tape.gradient` returns the gradients of one device.

A `train_step` may do anything with gradients before it applies them: clip them, log their norm,
take a step along them and back (SAM), put several together. So inside a step a gradient with
respect to values that are equal on all replicas (variables, and tensors computed only from them)
already is the example-weighted mean over the replicas, by one packed all-reduce per call. Gradients
with respect to a replica's examples stay local.

The reduction can be differentiated: what flows back is the same mean. With L = sum_s (n_s / n) L_s
and G = sum_r (n_r / n) g_r, replica r sends (dg_r / dw)^T times sum_s (n_s / n) dL_s / dG, and is
weighted by n_r / n once more when that gradient is reduced.

A target that is a vector counts as the sum of its elements, as TensorFlow has it; where these are
rows of a share the sum over the whole batch is (n / n_r) times what weighing by n_r / n leaves.

Inside a tf.cond, a tf.while_loop or `local_gradients()` gradients stay a replica's own, and are
reduced when they are applied.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.eager import record

from strategies.devices import all_on
from strategies.keras_support.context.lineage import OWN, Source
from strategies.keras_support.context.rows import is_over_rows, may_be_over_rows
from strategies.keras_support.context.step_context import StepContext, current_step
from strategies.keras_support.gradients.gradient_reduce import Gradient, dense_gradients
from strategies.keras_support.gradients.local_steps import steps_locally
from strategies.keras_support.gradients.sparse_gradients import Rows, parts_of
from strategies.keras_support.gradients.step_reduce import reduce_in_step
from strategies.keras_support.patching.ownership import is_asynchronous, is_owned
from strategies.keras_support.sharding.backward_gathers import gathering_again
from strategies.keras_support.sharding.scattering import ShardedGradient
from strategies.keras_support.sharding.sources import (
    Pieces,
    are_reduced_as_they_come,
    divided,
    expanded,
    with_wholes,
)
from strategies.keras_support.tensor.gradient_devices import beside_parts


class _Tracing(threading.local):
    """The gradient computation that this replica is in."""

    backward = 0
    """Backward passes: a gradient inside of one (`tf.recompute_grad`) is a part of it."""
    local = 0
    """Blocks of `local_gradients`."""


_TRACING = _Tracing()


@contextlib.contextmanager
def local_gradients() -> Iterator[None]:
    """Leaves the gradients that are computed inside local to each replica until they are applied.

    For a step that adds up the gradients of several parts of its batch: they are reduced once, by
    `optimizer.apply`, instead of once per part. Until then they may only be added and scaled.
    Outside of a `fit` under a strategy of this package it does nothing.

    Example:
        >>> weight = tf.Variable(3.0)
        >>> with local_gradients(), tf.GradientTape() as tape:
        ...     loss = weight**2
        >>> float(tape.gradient(loss, weight))
        6.0
    """
    _TRACING.local += 1
    try:
        yield
    finally:
        _TRACING.local -= 1


def reduced_gradient(gradient: Any) -> Any:
    """Wraps `tf.GradientTape.gradient`."""

    @functools.wraps(gradient)
    def reduced(
        self: Any,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
    ) -> Any:
        step = current_step()
        if step is None and tf.distribute.in_cross_replica_context():
            _refuse_between_replicas(sources)
        if _TRACING.backward or step is None or not _is_replicated(step):
            with beside_parts(() if step is None else step.layers):
                return with_wholes(
                    sources,
                    lambda asked: gradient(
                        self, target, asked, output_gradients, unconnected_gradients
                    ),
                )
        flat_sources = tf.nest.flatten(sources)
        shared = [_is_shared(source, step) for source in flat_sources]
        weights, factor = output_gradients, None
        if output_gradients is None and any(shared):
            weights, factor = _row_weights(target, step, all(shared))
        if factor is not None and are_reduced_as_they_come(flat_sources):
            weights = tf.nest.map_structure(lambda t: tf.fill(tf.shape(t), factor), target)
            factor = None
        asked, put_together = expanded(flat_sources)
        _TRACING.backward += 1
        try:
            with gathering_again(step), beside_parts(step.layers):
                answer = gradient(self, target, asked, weights, unconnected_gradients)
        finally:
            _TRACING.backward -= 1
        flat = put_together(answer)
        places = [i for i, g in enumerate(flat) if g is not None and shared[i]]
        if not places:
            return tf.nest.pack_sequence_as(sources, flat)
        if factor is not None:
            for i in places:
                flat[i] = _scaled(flat[i], factor)
        if not step.is_in_main_graph() or _TRACING.local:
            for i in places:
                flat[i] = flat[i].whole() if isinstance(flat[i], Pieces) else flat[i]
            own = [flat[i] for i in places if not isinstance(flat[i], ShardedGradient)]
            step.lineage.mark(_parts(own), Source.DATA | Source.LOCAL_GRADIENT)
        elif not steps_locally(step.layers):
            kept = divided([flat_sources[i] for i in places], [flat[i] for i in places])
            whole = [i for place, i in enumerate(places) if place not in kept]
            for i, g in zip(whole, _reduce([flat[i] for i in whole], step), strict=True):
                flat[i] = g
            for place, g in kept.items():
                flat[places[place]] = g
        return tf.nest.pack_sequence_as(sources, flat)

    return reduced


def _refuse_between_replicas(sources: Any) -> None:
    """Checks that variables of replicas are not differentiated outside of a replica."""
    strategy = tf.distribute.get_strategy()
    if not is_owned(strategy) or is_asynchronous(strategy):
        return
    for source in tf.nest.flatten(sources):
        value = source._value if isinstance(source, keras.Variable) else source
        if isinstance(value, tf.distribute.DistributedValues):
            raise ValueError(
                "`tape.gradient` must be called on the replicas, because each has its own copy of "
                "a variable. Received: a call in strategy.scope(), outside of strategy.run. "
                "Write the loop's body as train_step of a keras.Model and call fit, or run it "
                "with strategy.run(step, args=(batch,)) for each batch of "
                "strategy.experimental_distribute_dataset(data)."
            )


def _is_replicated(step: StepContext) -> bool:
    replica = tf.distribute.get_replica_context()
    return replica is not None and replica.num_replicas_in_sync > 1 and step.pull is None


def _is_shared(source: Any, step: StepContext) -> bool:
    """Tells whether a source is equal on all replicas: a variable, or computed from variables."""
    if isinstance(source, (keras.Variable, tf.Variable)):
        return True
    return tf.is_tensor(source) and not step.lineage.of(source) & OWN


def _row_weights(target: Any, step: StepContext, is_shared_only: bool) -> tuple[Any, Any]:
    """Returns weights of the targets' elements, or one factor of all; None where there is none."""
    targets = tf.nest.flatten(target)
    if not any(_may_hold_rows(each, step) for each in targets):
        return None, None
    holds_rows = [_may_hold_rows(t, step) and is_over_rows(t, step.examples) for t in targets]
    factor = step.scale_of_sums()
    if all(holds_rows):
        return None, factor
    if not is_shared_only:
        raise ValueError(
            "`target` of tape.gradient must not mix scalars and vectors of rows if `sources` mix "
            "variables and tensors of the batch. Received: targets of shapes "
            f"{[tuple(each.shape) for each in targets]}. Compute the two kinds of gradients "
            "separately, with a persistent tape."
        )
    return [
        tf.fill(tf.shape(each), tf.cast(factor if is_rows else 1.0, each.dtype))
        for each, is_rows in zip(targets, holds_rows, strict=True)
    ], None


def _may_hold_rows(target: Any, step: StepContext) -> bool:
    if not tf.is_tensor(target) or isinstance(target, tf.Variable) or not target.shape.rank:
        return False
    return may_be_over_rows(target, step.examples)


def _scaled(gradient: Any, factor: Any) -> Any:
    if isinstance(gradient, Pieces):
        return gradient.times(factor)
    if isinstance(gradient, tf.IndexedSlices):
        values = _scaled(gradient.values, factor)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient * tf.cast(factor, gradient.dtype)


def _parts(gradients: Sequence[Gradient]) -> list[Any]:
    parts: list[Any] = []
    for each in gradients:
        parts += [each.values] if isinstance(each, tf.IndexedSlices) else [each]
    return parts


def _reduce(own: list[Gradient], step: StepContext) -> list[Gradient]:
    """Reduces gradients, and with them the other values that the step has to reduce."""
    if not own:
        return []
    replica = tf.distribute.get_replica_context()
    if all_on("TPU", replica.strategy):
        own = dense_gradients(own)
    loss = step.recorded_loss() if step.before and step.reduced_loss is None else None
    if not record.could_possibly_record():
        reduced = reduce_in_step(own, loss)
    else:
        reduced = _differentiable(own, loss, step)
    step.lineage.mark(_parts(reduced), Source.REDUCED)
    return reduced


def _differentiable(own: list[Gradient], loss: Any, step: StepContext) -> list[Gradient]:
    """Reduces gradients that an outer tape may differentiate again."""
    # Rows that are gathered come from several replicas: there the way back ends, see _ends.
    gathered = [
        isinstance(g, tf.IndexedSlices)
        and any(part.kind is not Rows.POSITIONS for part in parts_of(g, step.lineage))
        for g in own
    ]
    structure: list[Gradient] = []

    @tf.custom_gradient
    def reduce(*values: tf.Tensor) -> Any:
        given = [_with_values(g, v) for g, v in zip(own, values, strict=True)]
        structure[:] = reduce_in_step(given, loss)

        def backward(*upstream: tf.Tensor) -> list[tf.Tensor]:
            sent = [u for u, is_gathered in zip(upstream, gathered, strict=True) if not is_gathered]
            mean = iter(reduce_in_step(sent))
            return [
                tf.zeros_like(value) if is_gathered else next(mean)
                for value, is_gathered in zip(values, gathered, strict=True)
            ]

        return tuple(_parts(structure)), backward

    values = reduce(*_parts(own))
    return [
        _with_values(g, _ends(v) if is_gathered else v)
        for g, v, is_gathered in zip(structure, values, gathered, strict=True)
    ]


def _with_values(gradient: Gradient, values: tf.Tensor) -> Gradient:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values


@tf.custom_gradient
def _ends(rows: tf.Tensor) -> Any:
    def backward(_: tf.Tensor) -> Any:
        raise ValueError(
            "`sources` must not contain an Embedding's table if the gradient is differentiated "
            "again, because its rows come from several replicas. Received: a gradient of "
            "tf.IndexedSlices. Look rows up with tf.one_hot(ids, n) @ table, or omit the table "
            "from the inner tape.gradient."
        )

    return tf.identity(rows), backward
