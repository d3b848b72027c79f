"""An optimizer's update, each replica on its part; then the parameters are whole again.

Keras's own `apply` runs on what `part_view` shows. Two things in it look at all gradients at once:
clipping by a norm, and the check of loss scaling for inf and NaN. Their sums are made over the
replicas before, in one small collective, because a replica may clip inside a condition
(accumulation), where replicas cannot communicate.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.context.packs import Turns, packs
from strategies.keras_support.context.step_context import sum_over_replicas
from strategies.keras_support.patching.ownership import is_multi_worker
from strategies.keras_support.sharding.gathering import all_parts
from strategies.keras_support.sharding.optimizer_state import divide_other_slots
from strategies.keras_support.sharding.part_view import parts_shown
from strategies.keras_support.sharding.scattering import ShardedGradient
from strategies.keras_support.sharding.sharded_value import is_sharded
from strategies.keras_support.sharding.stages import own_replica, stage_of
from strategies.keras_support.sharding.step_order import (
    is_one_of_several,
    note_update,
    require_update_here,
)


@dataclass(frozen=True)
class _Norms:
    """What is known of all replicas' parts.

    Attributes:
        squares: By gradient, the sum of squares over the whole variable.
        is_finite: Whether no gradient has an inf or NaN.
    """

    squares: list[tf.Tensor]
    is_finite: tf.Tensor

    @classmethod
    def over_replicas(cls, own: tf.Tensor) -> _Norms:
        """Adds up what `_own_norms` returned on each replica."""
        total = sum_over_replicas(own)
        *squares, broken = tf.unstack(total, num=own.shape[0])
        return cls(squares, broken <= 0)


class _Updating(threading.local):
    """The update that this replica is in, or None."""

    norms: _Norms | None = None


_UPDATING = _Updating()


def is_in_parts(optimizer: Any) -> bool:
    """Tells whether an optimizer's slots are divided among the replicas."""
    return bool(stage_of(optimizer._distribution_strategy))


def update_parts(
    optimizer: Any,
    gradients: Sequence[Any],
    variables: Sequence[Any],
    apply: Callable[[Sequence[Any]], Any],
    locally: Callable[[Sequence[Any]], contextlib.AbstractContextManager[None]],
) -> Any:
    """Updates this replica's parts, and makes the parameters whole on all replicas.

    Args:
        optimizer: The outermost one, built; in replica context.
        gradients: Equal on all replicas, or a `ShardedGradient`; None where there is none.
        variables: The Keras variables of the gradients.
        apply: Applies gradients by Keras's code.
        locally: Lets this replica update its copies of the given variables.
    """
    unknown = [v.path for v in variables if not hasattr(v, "part_cut")]
    if unknown:
        raise ValueError(
            "`trainable_variables` must be those that the optimizer was built with. Received: "
            f"{unknown[0]!r} for {optimizer.name!r}. Build the model first, then call "
            "optimizer.build(model.trainable_variables)."
        )
    replica, device_index = own_replica()
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    looks_at_norms = optimizer is not inner or inner.clipnorm or inner.global_clipnorm
    whole = [v for v in inner._trainable_variables if not is_sharded(v)]
    if looks_at_norms or (whole and is_one_of_several()):
        require_update_here(optimizer.name)
    divide_other_slots(inner)
    parts = [
        _part(g, v.part_cut, replica) if g is not None else None
        for g, v in zip(gradients, variables, strict=True)
    ]
    state = optimizer.variables
    divided = [v for v in state if is_sharded(v)]
    counters = [v for v in state if not is_sharded(v)]
    shown = [*inner._trainable_variables, *divided]
    norms = None
    if looks_at_norms:
        with parts_shown(shown, replica, device_index):
            own = _own_norms(optimizer, inner, parts, variables)
        norms = _Norms.over_replicas(own)  # replicas wait here, so nothing may be shown
    outer, _UPDATING.norms = _UPDATING.norms, norms
    strategy = tf.distribute.get_replica_context().strategy
    try:
        with (
            parts_shown(shown, replica, device_index),
            locally(counters),
            _updating_where_it_is(strategy),
        ):
            result = apply(parts)
    finally:
        _UPDATING.norms = outer
    _make_whole(whole)
    if len(whole) < len(inner._trainable_variables):
        note_update()
    return result


def _part(gradient: Any, cut: Any, replica: int) -> Any:
    if isinstance(gradient, ShardedGradient):
        if gradient.cut != cut:
            raise ValueError(
                f"The gradient of {gradient.name!r} was divided before its optimizer was built. "
                "Call optimizer.build(model.trainable_variables) before the first step."
            )
        return gradient.part
    if isinstance(gradient, tf.IndexedSlices):
        return cut.take_rows(gradient, replica)
    return cut.take(tf.convert_to_tensor(gradient), replica)


@contextlib.contextmanager
def _updating_where_it_is(strategy: tf.distribute.Strategy) -> Any:
    """Lets Keras update what it is given directly, and nothing that has no rows here."""
    extended = strategy.extended
    shadowed = vars(extended).get("_replica_ctx_update")

    def update(var: Any, fn: Any, args: Any = (), kwargs: Any = None, group: bool = True) -> Any:
        if not getattr(var, "has_rows", True):
            return None
        with tf.device(var.device):
            return fn(var, *args, **(kwargs or {}))

    extended._replica_ctx_update = update
    try:
        yield
    finally:
        if shadowed is None:
            del extended._replica_ctx_update
        else:
            extended._replica_ctx_update = shadowed


def _own_norms(
    optimizer: Any, inner: Any, parts: Sequence[Any], variables: Sequence[Any]
) -> tf.Tensor:
    """Returns this replica's squares of the parts that will be clipped, and its infs and NaNs."""
    is_scaled = optimizer is not inner
    present = [(g, v) for g, v in zip(parts, variables, strict=True) if g is not None]
    squares, broken = [], []
    for gradient, variable in present:
        if isinstance(gradient, tf.IndexedSlices):
            # A norm of Keras's counts each row of a lookup; accumulation adds them up first.
            adds_up = inner.gradient_accumulation_steps
            gradient = tf.convert_to_tensor(gradient) if adds_up else gradient.values
        broken.append(tf.reduce_sum(tf.cast(~tf.math.is_finite(gradient), tf.float32)))
        if is_scaled:
            gradient = gradient / tf.cast(optimizer.dynamic_scale, gradient.dtype)
        if inner.loss_scale_factor is not None:
            gradient = gradient / inner.loss_scale_factor
        steps = inner.gradient_accumulation_steps
        if steps:
            kept = inner._accumulated_gradients[inner._get_variable_index(variable)]
            gradient = (gradient + kept) / steps
        wide = tf.cast(gradient, tf.float32) if gradient.dtype.size < 4 else gradient
        squares.append(tf.reduce_sum(tf.square(wide)))
    dtype = tf.float64 if any(s.dtype == tf.float64 for s in squares) else tf.float32
    return tf.stack([*(tf.cast(s, dtype) for s in squares), tf.cast(tf.add_n(broken), dtype)])


def clipped_by_all_parts(clip: Any) -> Any:
    """Wraps `Optimizer._clip_gradients`: a norm is that of the whole, not of a part."""

    @functools.wraps(clip)
    def clipped(self: Any, grads: Any) -> Any:
        norms = _UPDATING.norms
        if norms is None or not (self.clipnorm or self.global_clipnorm):
            return clip(self, grads)
        if self.clipnorm:
            return [
                _scaled_to(g, self.clipnorm, square)
                for g, square in zip(grads, norms.squares, strict=True)
            ]
        total = tf.add_n(norms.squares)
        # Keras's product with a scalar makes rows of a lookup dense.
        return [_scaled_to(tf.convert_to_tensor(g), self.global_clipnorm, total) for g in grads]

    return clipped


def _scaled_to(gradient: Any, largest: float, square: tf.Tensor) -> Any:
    norm = tf.sqrt(square)
    limit = tf.constant(largest, norm.dtype)  # a cast would begin with float32
    factor = limit / tf.maximum(norm, limit)
    factor += norm - norm  # NaN stays NaN
    factor = tf.cast(factor, gradient.dtype)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor


def finite_in_all_parts(check_finite: Any) -> Any:
    """Wraps `LossScaleOptimizer.check_finite`: all replicas decide by all parts."""

    @functools.wraps(check_finite)
    def checked(self: Any, grads: Any) -> Any:
        norms = _UPDATING.norms
        return check_finite(self, grads) if norms is None else norms.is_finite

    return checked


def _make_whole(variables: Sequence[keras.Variable]) -> None:
    """Gives all replicas the parts that the others have updated."""
    if not variables:
        return
    replica = tf.distribute.get_replica_context()
    if not is_multi_worker(replica.strategy):
        replica.merge_call(_copy_parts, args=([_Whole(v) for v in variables],))
        return
    own, device_index = own_replica()
    turns = Turns()
    for pack in packs([v._value for v in variables], range(len(variables))):
        cuts = [variables[i].part_cut for i in pack]
        copies = [
            replica.strategy.experimental_local_results(variables[i]._value)[device_index]
            for i in pack
        ]
        with turns.next():
            parts = [
                cut.take(tf.convert_to_tensor(c), own) for c, cut in zip(copies, cuts, strict=True)
            ]
        wholes = all_parts(parts, cuts)
        for copy, whole in zip(copies, wholes, strict=True):
            copy.assign(whole)
        turns.ends(*wholes)


class _Whole:
    """A variable, hidden from `merge_call`, which would take it apart."""

    def __init__(self, variable: Any) -> None:
        self.variable = variable


def _copy_parts(strategy: tf.distribute.Strategy, variables: Any) -> None:
    for each in variables:
        variable = strategy.experimental_local_results(each)[0].variable
        cut = variable.part_cut
        copies = strategy.experimental_local_results(variable._value)
        parts = [cut.take(tf.convert_to_tensor(own), r) for r, own in enumerate(copies)]
        for r, copy in enumerate(copies):
            if not cut.is_whole(r):
                with tf.device(copy.device):
                    copy.assign(cut.joined(parts))
