"""The gradient seam: reduce first, then everything else, as one device would.

Keras clips, checks for inf, accumulates and averages a replica's own gradient and adds the replicas
up last of all, so replicas decide differently: a clipped sum is not the sum of clipped parts (S4),
an inf on one replica poisons or hangs the others (S1, H1), and a condition around the all-reduce
cannot be traced (C2, C3). Here the outermost optimizer's `apply` adds the replicas up first. From
there on all replicas hold the same gradient, so each runs Keras's own code on its own copy of the
variables, and there is nothing left to communicate.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from strategies.devices import all_stand_on
from strategies.keras_support.asynchronous_updates import without_merging
from strategies.keras_support.gradient_watch import Before, GradientWatch, watch_of
from strategies.keras_support.local_updates import local_gradients
from strategies.keras_support.ownership import is_asynchronous, is_owned
from strategies.keras_support.packed_reduce import Gradient, dense_gradients, reduce_gradients
from strategies.keras_support.seam import Seam
from strategies.keras_support.step_context import current_step, told_loss


class _Replica(threading.local):
    """Whether this replica's gradients are reduced already: true inside the outermost `apply`."""

    reduced = False


_REPLICA = _Replica()


def _reduce_before(apply: Any) -> Any:
    """Wraps an optimizer class's `apply`; nested optimizers (loss scaling) reduce only once."""

    @functools.wraps(apply)
    def reduced_apply(
        self: Any, grads: Sequence[Gradient | None], trainable_variables: Any = None
    ) -> Any:
        replica = tf.distribute.get_replica_context()
        if _REPLICA.reduced or replica is None or not is_owned(replica.strategy):
            return apply(self, grads, trainable_variables)
        note_apply(self, grads)
        watch = watch_of(self)
        loss = None if watch is None else told_loss()

        def update() -> Any:
            return apply(self, grads, trainable_variables)

        if isinstance(replica.strategy, tf.distribute.OneDeviceStrategy):
            return _watched(watch, grads, loss, update)
        if all_stand_on("TPU", replica.strategy):
            grads = dense_gradients(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                replica.merge_call(_build, args=(self, trainable_variables))
        alone = local_gradients(self, list(grads))
        if alone is not None:
            grads = alone
        elif replica.num_replicas_in_sync > 1:
            told = [] if loss is None else [_in_pack(loss, grads)]
            grads = reduce_with_statistics([*grads, *told])
            loss = grads.pop() if told else None
        variables = [*self.variables, *(trainable_variables or self._trainable_variables)]
        if watch is not None:
            variables += watch.written(_before(watch))
        with contextlib.ExitStack() as alone_here:
            alone_here.enter_context(_replica_local(replica.strategy, variables))
            if is_asynchronous(replica.strategy):
                alone_here.enter_context(without_merging(replica.strategy))
            return _watched(watch, grads, loss, update)

    return reduced_apply


def note_apply(optimizer: Any, gradients: Sequence[Gradient | None]) -> None:
    """Lets a worker that trains at its own pace measure how stale its gradients are by now."""
    step = current_step()
    if step is not None and step.pull is not None:
        step.pull.note_apply(optimizer, gradients)


def _watched(
    watch: GradientWatch | None,
    gradients: Sequence[Gradient | None],
    loss: Any,
    update: Callable[[], Any],
) -> Any:
    """Applies reduced gradients, unless a watch holds the step back."""
    if watch is None:
        return update()
    return watch.apply(gradients, loss, _before(watch), update)


def _before(watch: GradientWatch) -> Before | None:
    step = current_step()
    return None if step is None else step.before.get(watch)


def _in_pack(loss: tf.Tensor, gradients: Sequence[Gradient | None]) -> tf.Tensor:
    """Casts a loss so that it travels with the gradients and not by itself."""
    is_wide = any(g is not None and g.dtype == tf.float64 for g in gradients)
    return tf.cast(loss, tf.float64 if is_wide else tf.float32)


def _build(strategy: tf.distribute.Strategy, optimizer: Any, variables: Any) -> None:
    """Makes an optimizer's variables for all replicas at once, outside of the step's graph.

    Keras builds the optimizer that a model was compiled with before the first step, and one that
    only a `train_step` of the user's knows (a GAN's second) inside of it, replica by replica.
    """
    # What crosses a merge_call is regrouped by replica, also where all replicas hold the same.
    optimizer = strategy.experimental_local_results(optimizer)[0]
    variables = [strategy.experimental_local_results(v)[0] for v in variables]
    with tf.init_scope(), strategy.scope():
        optimizer.build(variables)


def reduce_with_statistics(gradients: list[Gradient | None]) -> list[Gradient | None]:
    """Reduces gradients, and with them what the step's statistics moved by on each replica.

    The mean of the moves, weighed by examples like a gradient, is what the statistics move by on
    all replicas. One that did not move stays as it is, to the bit.
    """
    step = current_step()
    if step is None:
        return reduce_gradients(gradients, None)
    statistics = step.statistics if step.owes_statistics else []
    moves = [variable.value - before for variable, before in statistics]
    reduced = reduce_gradients([*gradients, *moves], step.examples)
    step.owes_statistics = False
    count = len(gradients)
    for (variable, before), move in zip(statistics, reduced[count:], strict=True):
        variable.assign(before + move)
    return reduced[:count]


def _already_reduced(all_reduce_sum_gradients: Any) -> Any:
    @functools.wraps(all_reduce_sum_gradients)
    def pass_through(self: Any, grads_and_vars: Any) -> Any:
        if _REPLICA.reduced:
            return list(grads_and_vars)
        return all_reduce_sum_gradients(self, grads_and_vars)

    return pass_through


@contextlib.contextmanager
def _replica_local(strategy: tf.distribute.Strategy, variables: Sequence[Any]) -> Iterator[None]:
    """Lets this replica update its own copies of `variables` without meeting the others.

    TensorFlow has this mode for XLA on GPUs, where replicas must not synchronise through Python
    (`_use_merge_call`). Counters are mirrored from the first replica on each write, which is a
    broadcast; here every replica counts the same, so theirs are written in place too. The
    replicas' threads take turns and meet nowhere inside, so what is set here is seen by one only.
    """
    extended = strategy.extended
    copies = [v._value if isinstance(v, keras.Variable) else v for v in variables]
    aggregations = [v._aggregation for v in copies]
    shadowed = vars(extended).get("_use_merge_call")
    try:
        _REPLICA.reduced = True
        extended._use_merge_call = lambda: False
        for v in copies:
            v._aggregation = tf.VariableAggregation.NONE
        yield
    finally:
        _REPLICA.reduced = False
        if shadowed is None:
            del extended._use_merge_call
        else:
            extended._use_merge_call = shadowed
        for v, aggregation in zip(copies, aggregations, strict=True):
            v._aggregation = aggregation


APPLY = Seam(
    "keras.src.optimizers.base_optimizer:BaseOptimizer.apply",
    frozenset({"9a22d6209ae5"}),
    _reduce_before,
)
LOSS_SCALE_APPLY = Seam(
    "keras.src.optimizers.loss_scale_optimizer:LossScaleOptimizer.apply",
    frozenset({"005813294335"}),
    _reduce_before,
)
REDUCE = Seam(
    "keras.src.backend.tensorflow.optimizer:TFOptimizer._all_reduce_sum_gradients",
    frozenset({"abefde3fa5fe"}),
    _already_reduced,
)
