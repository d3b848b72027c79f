"""Optimizer updates: gradients are reduced first, then clipped and applied as on one device.

Keras clips, checks for inf, accumulates and averages each replica's own gradient, and adds up the
replicas last. So replicas decide differently: a clipped sum is not the sum of clipped parts (S4),
an inf on one replica breaks or hangs the others (S1, H1), and a condition around the all-reduce
cannot be traced (C2, C3). Here all replicas have the same gradient before the outermost optimizer's
`apply` begins: `tape.gradient` reduced it (see `tape_gradients`), or `apply` does. So each replica
runs Keras's own code on its copy of the variables, without further communication.

Two things around it are also done for all replicas at once, or without waiting for the others:

* An optimizer that only the step knows, such as a GAN's second one, gets its variables for all
  replicas together; Keras would make them inside the step, replica by replica.
* A worker of a parameter server strategy updates variables on the servers where it is. TensorFlow
  updates a variable through a merge of all replicas, even if there is one, and refuses that inside
  a condition; loss scaling and averages of weights decide by conditions whether they update.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from strategies.devices import all_on
from strategies.keras_support.context.step_context import current_step
from strategies.keras_support.gradients.gradient_reduce import Gradient, dense_gradients
from strategies.keras_support.gradients.gradient_watch import Before, GradientWatch, watch_of
from strategies.keras_support.gradients.gradients_to_apply import gradients_to_apply
from strategies.keras_support.gradients.local_steps import gradients_of_local_step
from strategies.keras_support.gradients.update_rules import ruled, rules_of, written_by_rules
from strategies.keras_support.patching.ownership import is_asynchronous, is_owned
from strategies.keras_support.sharding.scattering import ShardedGradient
from strategies.keras_support.sharding.stages import divisions
from strategies.keras_support.sharding.update import is_in_parts, update_parts
from strategies.keras_support.tensor.gradient_devices import beside_parts


class _Replica(threading.local):
    """Whether this replica's gradients are reduced already: true inside the outermost `apply`."""

    reduced = False


_REPLICA = _Replica()


def reduced_before_apply(apply: Any) -> Any:
    """Wraps an optimizer class's `apply`; nested optimizers (loss scaling) reduce only once."""
    apply = ruled(apply)

    @functools.wraps(apply)
    def reduced_apply(
        self: Any, grads: Sequence[Gradient | None], trainable_variables: Any = None
    ) -> Any:
        replica = tf.distribute.get_replica_context()
        if replica is None and is_owned(tf.distribute.get_strategy()):
            raise ValueError(
                "`optimizer.apply` must be called in a training step, or outside of "
                "`strategy.scope()` with gradients of the whole batch. Received: a call inside "
                "the scope, but outside of a replica. Leave the scope first, or call it in "
                "strategy.run."
            )
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        step = current_step()
        for each in step.passes if step is not None else ():
            each.note_updated(trainable_variables or self._trainable_variables)
        if _REPLICA.reduced or replica is None or not is_owned(replica.strategy):
            if not tf.distribute.has_strategy() and is_in_parts(self):
                return _applied_outside(self, list(grads), trainable_variables, apply)
            return apply(self, grads, trainable_variables)
        note_apply(self, grads)
        watch = watch_of(self)
        loss = step.recorded_loss() if watch is not None and step is not None else None

        def update() -> Any:
            with beside_parts(() if step is None else step.layers):
                return apply(self, grads, trainable_variables)

        if isinstance(replica.strategy, tf.distribute.OneDeviceStrategy):
            return _watched(watch, grads, loss, update)
        if all_on("TPU", replica.strategy):
            grads = dense_gradients(grads)
        if trainable_variables is not None and not self.built:
            build_for_all_replicas(self, trainable_variables)
        if is_in_parts(self):
            return _applied_in_parts(self, list(grads), trainable_variables, watch, apply)
        own = gradients_of_local_step(self, list(grads))
        if own is not None:
            grads = own
        elif replica.num_replicas_in_sync > 1:
            grads, loss = gradients_to_apply(self, list(grads), loss)
        variables = [*self.variables, *(trainable_variables or self._trainable_variables)]
        variables += written_by_rules(self)
        if watch is not None:
            variables += watch.written(_before(watch))
        with contextlib.ExitStack() as locally:
            locally.enter_context(_replica_local(replica.strategy, variables))
            if step is not None:
                locally.enter_context(step.updating())
            if is_asynchronous(replica.strategy):
                locally.enter_context(without_merging(replica.strategy))
            return _watched(watch, grads, loss, update)

    return reduced_apply


def _applied_in_parts(
    optimizer: Any, gradients: list[Any], variables: Any, watch: Any, apply: Any
) -> Any:
    """Updates this replica's parts of the variables, and of the optimizer's slots."""
    if watch is not None:
        raise ValueError(
            "`shard` must be 0 with the callback Stability, which judges whole gradients. "
            f"Received: the optimizer {optimizer.name!r}, whose slots are sharded. Leave one of "
            "them out."
        )
    if rules_of(optimizer):
        raise ValueError(
            "`shard` must be 0 with a callback that prunes, clusters or measures whole weights. "
            f"Received: the optimizer {optimizer.name!r}, whose slots are sharded. Leave one of "
            "them out."
        )
    step = current_step()
    variables = list(optimizer._trainable_variables if variables is None else variables)
    whole = [i for i, g in enumerate(gradients) if not isinstance(g, ShardedGradient)]
    reduced, _ = gradients_to_apply(optimizer, [gradients[i] for i in whole], None)
    for i, g in zip(whole, reduced, strict=True):
        gradients[i] = g
    with contextlib.nullcontext() if step is None else step.updating():
        return _updated_in_parts(optimizer, gradients, variables, apply)


def _updated_in_parts(
    optimizer: Any, gradients: list[Any], variables: list[Any], apply: Callable[..., Any]
) -> Any:
    strategy = tf.distribute.get_replica_context().strategy

    def locally(counters: Sequence[Any]) -> contextlib.AbstractContextManager[None]:
        return _replica_local(strategy, counters)

    return update_parts(
        optimizer, gradients, variables, lambda g: apply(optimizer, g, variables), locally
    )


def _applied_outside(
    optimizer: Any, gradients: list[Any], variables: Any, apply: Callable[..., Any]
) -> Any:
    """Applies gradients of the whole batch that were computed outside of the scope.

    TensorFlow would call Keras's update once for each copy of a variable, and so update a slot in
    parts as often. All workers call it together, with equal gradients.
    """
    strategy = optimizer._distribution_strategy
    if not optimizer.built:
        with _reading_no_old_parts(optimizer), tf.init_scope(), strategy.scope():
            optimizer.build(variables)
    variables = list(optimizer._trainable_variables if variables is None else variables)

    def update() -> None:
        _updated_in_parts(optimizer, list(gradients), variables, apply)

    strategy.run(update)
    return optimizer.iterations


def note_apply(optimizer: Any, gradients: Sequence[Gradient | None]) -> None:
    """Lets a worker of asynchronous training measure how stale its gradients are."""
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


def reduced_only_once(all_reduce_sum_gradients: Any) -> Any:
    """Replaces Keras's own reduction: gradients that are reduced already pass through."""

    @functools.wraps(all_reduce_sum_gradients)
    def pass_through(self: Any, grads_and_vars: Any) -> Any:
        if _REPLICA.reduced:
            return list(grads_and_vars)
        return all_reduce_sum_gradients(self, grads_and_vars)

    return pass_through


@contextlib.contextmanager
def _replica_local(strategy: tf.distribute.Strategy, variables: Sequence[Any]) -> Iterator[None]:
    """Lets this replica update its own copies of `variables` without waiting for the others.

    TensorFlow has this mode for XLA on GPUs, where replicas must not synchronise through Python
    (`_use_merge_call`). Counters are mirrored from the first replica on each write, which is a
    broadcast; here every replica counts the same, so theirs are written in place too. The
    replicas' threads take turns and nothing inside waits, so only one sees what is set here.
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


def build_for_all_replicas(optimizer: Any, variables: list[Any]) -> None:
    """Makes an optimizer's variables for all replicas at once, outside of the step's graph.

    Args:
        optimizer: One that is not built; called in replica context.
        variables: The Keras variables that it updates.
    """
    replica, step = tf.distribute.get_replica_context(), current_step()
    if step is None or step.is_in_main_graph():
        with _reading_no_old_parts(optimizer):
            replica.merge_call(_build, args=(optimizer, variables))
        return
    # Replicas cannot communicate inside a condition; the first one builds for all, in a thread that
    # is in no replica's context and no graph.
    failures: list[BaseException] = []

    def build() -> None:
        try:
            with replica.strategy.scope():
                optimizer.build(variables)
        except Exception as error:
            failures.append(error)

    builder = threading.Thread(target=build)
    builder.start()
    builder.join()
    if failures:
        raise failures[0]


def _build(strategy: tf.distribute.Strategy, optimizer: Any, variables: Any) -> None:
    # Values that cross a merge_call are regrouped by replica, even if they are equal on all
    # replicas.
    optimizer = strategy.experimental_local_results(optimizer)[0]
    variables = [strategy.experimental_local_results(v)[0] for v in variables]
    with tf.init_scope(), strategy.scope():
        optimizer.build(variables)


@contextlib.contextmanager
def _reading_no_old_parts(optimizer: Any) -> Iterator[None]:
    """Checks that an optimizer that is built in a graph leaves what the graph has read as it is."""
    before = divisions()
    yield
    if divisions() != before and not tf.executing_eagerly():
        raise ValueError(
            f"{optimizer.name!r} must be built before its first step is traced, because it divides "
            "parameters in another way than the step has read them. Received: an optimizer that "
            "was not built. Call optimizer.build(model.trainable_variables) in strategy.scope()."
        )


@contextlib.contextmanager
def without_merging(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Lets the one replica of a worker update variables where it is.

    Args:
        strategy: A parameter server strategy, of workers with one replica.
    """
    extended = strategy.extended

    def update(var: Any, fn: Any, args: Any = (), kwargs: Any = None, group: bool = True) -> Any:
        return extended._update(var, fn, args, kwargs or {}, group)

    extended._replica_ctx_update = update
    try:
        yield
    finally:
        del extended._replica_ctx_update
