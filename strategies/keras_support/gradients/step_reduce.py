"""The reduction of a step: gradients, and state to which replicas wrote different values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.lineage import Source
from strategies.keras_support.context.step_context import StepContext, current_step
from strategies.keras_support.gradients.gradient_reduce import Gradient, reduce_pack
from strategies.keras_support.gradients.sparse_gradients import parts_of, received, sent
from strategies.keras_support.placement.means_by_device import means_by_device
from strategies.keras_support.tensor.gradient_ranks import ranks_of


@dataclass
class Owed:
    """Variables whose copies differ, by how they are combined.

    Attributes:
        means: Variable and value before: its change is averaged, weighted by examples.
        sums: Variable, the part that counts once (None for none), and the replica's own part.
        extremes: Variable, "max" or "min", and the value before.
    """

    means: list[tuple[Any, tf.Tensor]] = field(default_factory=list)
    sums: list[tuple[Any, Any, tf.Tensor]] = field(default_factory=list)
    extremes: list[tuple[Any, str, tf.Tensor]] = field(default_factory=list)


def reduce_in_step(
    gradients: Sequence[Gradient | None], loss: tf.Tensor | None = None
) -> list[Gradient | None]:
    """Returns the gradients' means over all examples, the same on all replicas.

    Layers' state that the replicas hold differently, and the step's loss, travel in the same pack.

    Args:
        gradients: This replica's, in a step of this package; `None` where there is none.
        loss: Scalar, this replica's loss, if that of the global batch is asked for.
    """
    step = current_step()
    assert step is not None
    ranks = ranks_of(gradients, step)
    elsewhere = [gradients[i] for i in ranks]
    gradients = [None if i in ranks else g for i, g in enumerate(gradients)]
    tables = {
        i: parts_of(g, step.lineage)
        for i, g in enumerate(gradients)
        if isinstance(g, tf.IndexedSlices)
    }
    flat: list[Any] = []
    for i, g in enumerate(gradients):
        flat += sent(tables[i]) if i in tables else [g]
    owed = step.state.take_owed() if step.state is not None else Owed()
    moves = [variable.value - before for variable, before in owed.means]
    sums = [_of_examples(own, step) for _, _, own in owed.sums]
    rows = [_row_of(variable, before, step) for variable, _, before in owed.extremes]
    losses = [] if loss is None else [_in_pack(loss, flat)]
    reduced = reduce_pack([*flat, *moves, *losses], step.examples, [*sums, *rows])
    if step.all_examples is None:
        step.all_examples = reduced.examples
    rest = iter(reduced.gradients)
    result: list[Gradient | None] = []
    for i in range(len(gradients)):
        if i in tables:
            result.append(received(tables[i], [next(rest) for _ in tables[i]]))
        else:
            result.append(next(rest))
    for variable, before in owed.means:
        _settle(step, variable, before + next(rest))
    totals = iter(reduced.sums)
    for variable, once, _ in owed.sums:
        total = tf.cast(next(totals), variable.dtype)
        value = total if once is None else once + total
        if step.divisors is not None:  # a microbatch, perhaps without an example on any replica
            before = step.state.before[id(variable)][1]
            is_counted = tf.not_equal(reduced.examples, 0)
            value = tf.where(is_counted, value, before)
        _settle(step, variable, value)
    for variable, how, _ in owed.extremes:
        combine = tf.reduce_max if how == "max" else tf.reduce_min
        _settle(step, variable, tf.cast(combine(next(totals), axis=0), variable.dtype))
    if loss is not None:
        step.reduced_loss = next(rest)
        step.lineage.mark([step.reduced_loss], Source.REDUCED)
    if ranks:  # last, when the examples of the global batch are known
        means = means_by_device(elsewhere, list(ranks.values()), step)
        for i, mean in zip(ranks, means, strict=True):
            result[i] = mean
    return result


def _of_examples(own: tf.Tensor, step: StepContext) -> tf.Tensor:
    """Returns a replica's part of a sum: zero if it has no examples."""
    return tf.where(step.examples > 0, own, tf.zeros_like(own))


def _row_of(variable: Any, before: tf.Tensor, step: StepContext) -> tf.Tensor:
    """A replica's value in its place among those of all replicas; zeros elsewhere."""
    replica = tf.distribute.get_replica_context()
    value = tf.where(step.examples > 0, tf.identity(variable.value), before)
    place = tf.one_hot(replica.replica_id_in_sync_group, replica.num_replicas_in_sync) > 0
    place = tf.reshape(place, [-1, *[1] * value.shape.rank])
    return tf.where(place, value[tf.newaxis], tf.zeros_like(value)[tf.newaxis])


def _settle(step: StepContext, variable: Any, value: tf.Tensor) -> None:
    value = tf.broadcast_to(value, variable.shape)
    with step.updating():
        variable.assign(value)
    step.state.note_reduced(variable, value)


def _in_pack(loss: tf.Tensor, gradients: Sequence[Gradient | None]) -> tf.Tensor:
    """Casts a loss so that it is reduced together with the gradients."""
    is_wide = any(g is not None and g.dtype == tf.float64 for g in gradients)
    return tf.cast(loss, tf.float64 if is_wide else tf.float32)
