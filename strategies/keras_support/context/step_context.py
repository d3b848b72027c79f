"""The context of one replica's step, which connects loss, optimizer and trainer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tensorflow as tf

from strategies.devices import all_on
from strategies.keras_support.context.lineage import Lineage, Source
from strategies.keras_support.context.recomputed_pass import FirstPass, drawn
from strategies.keras_support.patching.step_clock import StepClock


@dataclass
class Pull:
    """The version of the weights that one worker's step computes with.

    Attributes:
        worker: int32 scalar, the index of the worker that takes the step.
        optimizer: The model's optimizer, or None where its step has another.
        version: int64 scalar, the updates before the weights were read.
        staleness: int64 scalar, updates by others between that and this step's own; -1 for a step
            that applied nothing with the model's optimizer.
    """

    worker: tf.Tensor
    optimizer: Any
    version: tf.Tensor = field(default_factory=lambda: tf.constant(-1, tf.int64))
    staleness: tf.Tensor = field(default_factory=lambda: tf.constant(-1, tf.int64))

    def __post_init__(self) -> None:
        if self.optimizer is not None:
            self.version = _updates(self.optimizer)

    def note_apply(self, optimizer: Any, gradients: Sequence[Any]) -> None:
        """Called when `gradients` are computed, before `optimizer` applies them."""
        if optimizer is not self.optimizer:
            return
        with tf.control_dependencies([g for g in gradients if g is not None]):
            self.staleness = _updates(optimizer) - self.version


def _updates(optimizer: Any) -> tf.Tensor:
    return tf.cast(tf.identity(optimizer.iterations.value), tf.int64)


@dataclass
class StepContext:
    """One replica's step: its examples, and the values to reduce before the step ends.

    Attributes:
        examples: int32 scalar, the examples of this replica in this step. May be zero.
        all_examples: int32 scalar, those of the global batch, or None if the user distributed the
        data, so that only the sum over replicas is known.
        padded_rows: int64 scalar, rows of the replica batch and of its padding, or None.
        state: What the step has assigned to variables; None where replicas have nothing to reduce.
        layers: All layers of the model, itself included.
        reduced_loss: The mean over all examples of the recorded loss, where that was reduced with
            the gradients; see `record_loss`.
        before: The state before this step, by watch.
        pull: The version that a worker of asynchronous training has read, or None.
        clock: Marks when this replica waits for the others, or None.
        lineage: What the tensors of this step depend on.
        shared_loss_tracker: Keras's metric of the loss, if it weighs by the rows of a part that all
        examples share, so equally on all replicas; otherwise None.
        is_updating: Whether an optimizer is applying gradients that are the same on all replicas.
        results: The results of metrics that are looked for in the step's logs, or None.
        trackers: Variables of metrics that the model does not list, as they were before the step.
        batch: The replica batch as the input delivered it, with wrappers of shared parts.
        divisors: Where this is a microbatch, `LossDivisors` of the whole batch; otherwise None.
        inner_updates: Optimizers that applied gradients inside a condition, with its graph.
        passes: First passes of recomputed functions; see `recomputed_pass`.
        gathers: The sharded parameters that were gathered, or None; see `sharding.gathering`.
        has_updated_parts: Whether replicas have to meet before they read sharded parameters; see
            `sharding.step_order`.
    """

    examples: tf.Tensor
    all_examples: tf.Tensor | None = None
    padded_rows: tf.Tensor | None = None
    state: Any = None
    layers: tuple[Any, ...] = ()
    reduced_loss: tf.Tensor | None = None
    before: dict[Any, Any] = field(default_factory=dict)
    pull: Pull | None = None
    clock: StepClock | None = None
    lineage: Lineage = field(default_factory=lambda: Lineage((), lambda _: Source.SHARED))
    shared_loss_tracker: Any = None
    is_updating: bool = False
    results: Any = None
    trackers: dict[int, list[tuple[Any, tf.Tensor]]] = field(default_factory=dict)
    batch: Any = None
    divisors: Any = None
    inner_updates: list[tuple[Any, Any]] = field(default_factory=list)
    passes: list[FirstPass] = field(default_factory=list)
    gathers: Any = None
    has_updated_parts: bool = False
    _loss: tf.Tensor | None = None
    _fraction: tf.Tensor | None = None
    _graph: Any = field(default_factory=tf.compat.v1.get_default_graph)

    def microbatch(self, examples: tf.Tensor, rows: tf.Tensor | int) -> StepContext:
        """Returns the context of a part of this replica batch, which is computed by itself.

        It weighs losses and metrics as if it were a replica batch: by its examples.

        Args:
            examples: int32 scalar, the examples of the part. May be zero.
            rows: Its rows, padding included.
        """
        padded = None if self.padded_rows is None else tf.cast(rows, tf.int64)
        return replace(
            self, examples=examples, padded_rows=padded, gathers=None, _loss=None, _fraction=None
        )

    @property
    def is_of_several(self) -> bool:
        """Whether the global batch has more examples than those of this context."""
        replica = tf.distribute.get_replica_context()
        if replica is None:
            return False
        return replica.num_replicas_in_sync > 1 or self.divisors is not None

    def record_loss(self, loss: tf.Tensor) -> None:
        """Keeps the loss that this step minimizes, for a watch that judges the step by it.

        Recorded where a `train_step` like Keras's passes it to `unscale_loss_for_distribution`, for
        its logs; of several the last one counts. `recorded_loss` is reduced with the gradients, to
        `reduced_loss`, and passed to `GradientWatch.apply` when the optimizer applies them.

        Args:
            loss: This replica's, of any shape; it is summed.
        """
        self._loss = tf.reduce_sum(loss)

    def recorded_loss(self) -> tf.Tensor | None:
        """Returns this replica's loss, a scalar; None where the step recorded none for this graph.

        A tf.function inside the step may have recorded one in another graph.
        """
        loss = self._loss
        if loss is not None and tf.is_symbolic_tensor(loss):
            return loss if loss.graph is tf.compat.v1.get_default_graph() else None
        return loss

    def fraction(self) -> tf.Tensor:
        """This replica's part of the global batch's examples, from 0 to 1.

        float64; float32 on a TPU, which has no float64. Costs one small all-reduce a step where the
        input does not know the global batch and no gradient was reduced yet.
        """
        if self._fraction is None:
            is_tpu = all_on("TPU", tf.distribute.get_strategy())
            dtype = tf.float32 if is_tpu else tf.float64
            own = tf.cast(self.examples, dtype)
            if self.all_examples is None:
                self.all_examples = sum_over_replicas(tf.reshape(own, [1]))[0]
            self._fraction = tf.math.divide_no_nan(own, tf.cast(self.all_examples, dtype))
        return self._fraction

    def scale_of_sums(self) -> tf.Tensor:
        """The factor for a sum over this replica's examples: n / n_r.

        Weighing replicas by their examples, n_r / n, then leaves the sum. Zero without examples.
        """
        fraction = self.fraction()
        return tf.math.divide_no_nan(tf.ones_like(fraction), fraction)

    @contextlib.contextmanager
    def updating(self) -> Iterator[None]:
        """Marks what is assigned inside as equal on all replicas."""
        outer, self.is_updating = self.is_updating, True
        try:
            yield
        finally:
            self.is_updating = outer

    def is_in_main_graph(self) -> bool:
        """Tells whether what is traced now is the step itself, where replicas can communicate.

        Inside a condition, a loop or another function they cannot.
        """
        return tf.executing_eagerly() or tf.compat.v1.get_default_graph() is self._graph

    def main_graph_around(self) -> Any:
        """Returns the step's graph if a condition or loop in it is traced now, otherwise None."""
        if tf.executing_eagerly() or (self.divisors is not None and self.divisors.is_dry):
            return None
        graph = tf.compat.v1.get_default_graph()
        while graph is not self._graph:
            graph = getattr(graph, "outer_graph", None)
            if graph is None:
                return None
        return self._graph


class _Current(threading.local):
    """tf.distribute traces every replica in its own thread; so each has its own step."""

    step: StepContext | None = None


_CURRENT = _Current()


def current_step() -> StepContext | None:
    """Returns the step this replica is taking, or None outside a step of our trainer."""
    return _CURRENT.step


def sum_over_replicas(values: Any) -> Any:
    """Adds up over all replicas, in replica context; may be called in the middle of a step.

    Args:
        values: A tensor, or a structure of tensors; the same structure on all replicas.
    """
    return drawn(lambda: _summed(values))


def _summed(values: Any) -> Any:
    step, replica = current_step(), tf.distribute.get_replica_context()
    clock = step.clock if step is not None else None
    if clock is None:
        total = replica.all_reduce(tf.distribute.ReduceOp.SUM, values)
    else:
        total = clock.around_collective(
            lambda: replica.all_reduce(tf.distribute.ReduceOp.SUM, values), after=values
        )
    if step is not None:
        step.lineage.mark(tf.nest.flatten(total, expand_composites=True), Source.SHARED)
    return total


@contextlib.contextmanager
def taking_step(step: StepContext) -> Iterator[None]:
    """Makes `step` the current one of this replica."""
    outer = _CURRENT.step
    _CURRENT.step = step
    try:
        yield
    finally:
        _CURRENT.step = outer
