"""What one replica knows of the step it is taking: the link between loss, optimizer and trainer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from strategies.keras_support.asynchronous_staleness import Pull
from strategies.keras_support.gradient_watch import Before, GradientWatch, watches_under
from strategies.keras_support.step_clock import StepClock


@dataclass
class StepContext:
    """One replica's share of a global batch, and what it owes the others before the step ends.

    Attributes:
        examples: int32 scalar, the examples this replica holds in this step. May be zero.
        statistics: Variables that each replica writes for itself in this step and that must be
            averaged, with their values before it (see `batch_norm_seam`).
        layers: All layers of the model, itself included.
        owes_statistics: Whether any of them moved since gradients were last reduced.
        loss: Scalar, this replica's loss as a `train_step` like Keras's told it, or None.
        before: What each watch remembers of the state before this step.
        pull: What a worker that trains at its own pace has read, or None.
        clock: Told when this replica waits for the others; None where nobody looks.
        all_examples: int32 scalar, the examples of the global batch. None where the user
            distributed the data, and only all replicas together know.
    """

    examples: tf.Tensor
    statistics: list[tuple[Any, tf.Tensor]] = field(default_factory=list)
    layers: tuple[Any, ...] = ()
    owes_statistics: bool = False
    loss: tf.Tensor | None = None
    before: dict[GradientWatch, Before] = field(default_factory=dict)
    pull: Pull | None = None
    clock: StepClock | None = None
    all_examples: tf.Tensor | None = None
    _share: tf.Tensor | None = None

    def share(self) -> tf.Tensor:
        """This replica's part of the global batch's examples.

        Costs one small all-reduce a step where the user distributed the data.
        """
        if self._share is None:
            own = tf.cast(self.examples, tf.float64)
            if self.all_examples is None:
                total = sum_over_replicas(tf.reshape(own, [1]))[0]
            else:
                total = tf.cast(self.all_examples, tf.float64)
            self._share = tf.math.divide_no_nan(own, total)
        return self._share

    def scale_of_sums(self) -> tf.Tensor:
        """What a sum over this replica's examples is multiplied by: n / n_r, float64.

        Weighing replicas by their examples, n_r / n, then leaves the sum. Zero without examples.
        """
        return tf.math.divide_no_nan(tf.constant(1.0, tf.float64), self.share())


class _Current(threading.local):
    """tf.distribute traces every replica in a thread of its own; so each has its own step."""

    step: StepContext | None = None


_CURRENT = _Current()


def current_step() -> StepContext | None:
    """Returns the step this replica is taking, or None outside a step of our trainer."""
    return _CURRENT.step


def sum_over_replicas(values: Any) -> Any:
    """Adds up over all replicas, in replica context; may be called in the middle of a step.

    While one replica waits here, TensorFlow traces the next one up to the same place, in the same
    layers. A layer keeps what `add_loss` and activity regularizers told it until the loss is put
    together, so the one that waited would find the other's: each has its own back afterwards.

    Args:
        values: A tensor, or a structure of tensors; the same structure on all replicas.
    """
    step, replica = current_step(), tf.distribute.get_replica_context()
    layers = step.layers if step is not None else ()
    told = [list(layer._losses) for layer in layers]
    clock = step.clock if step is not None else None
    if clock is None:
        total = replica.all_reduce(tf.distribute.ReduceOp.SUM, values)
    else:
        total = clock.around_collective(
            lambda: replica.all_reduce(tf.distribute.ReduceOp.SUM, values), after=values
        )
    for layer, losses in zip(layers, told, strict=True):
        layer._losses[:] = losses
    return total


def told_loss() -> tf.Tensor | None:
    """Returns this replica's loss, if its step told one that can be used where we are."""
    step = current_step()
    if step is None or step.loss is None:
        return None
    if tf.is_symbolic_tensor(step.loss):  # perhaps of a tf.function inside the step
        return step.loss if step.loss.graph is tf.compat.v1.get_default_graph() else None
    return step.loss


@contextlib.contextmanager
def taking_step(step: StepContext) -> Iterator[None]:
    """Makes `step` the current one of this replica."""
    outer = _CURRENT.step
    _CURRENT.step = step
    try:
        with contextlib.ExitStack() as watched:
            for watch in watches_under(tf.distribute.get_strategy()):
                step.before[watch] = watched.enter_context(watch.around_step())
            yield
    finally:
        _CURRENT.step = outer
