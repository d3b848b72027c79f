"""How stale a gradient is when it is applied: the updates of others since its weights were read.

The version of the parameters is the optimizer's count of updates. A worker notes it before it reads
a weight, and again when its gradients are there and about to be applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf


@dataclass
class Pull:
    """What one worker's step knows of the version that it computes with.

    Attributes:
        worker: int32 scalar, the index of the worker that takes the step.
        optimizer: The model's optimizer, or None where its step has one of its own.
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
class Staleness:
    """Staleness over some steps.

    Attributes:
        steps: Steps measured.
        total: The sum of their staleness, in updates.
        largest: The largest of them, in updates; 0 where none was measured.

    Example:
        >>> epoch = Staleness()
        >>> epoch.add(steps=2, total=3, largest=2)
        >>> epoch.mean
        1.5
    """

    steps: int = 0
    total: int = 0
    largest: int = 0

    def add(self, steps: int, total: int, largest: int) -> None:
        """Counts the steps of one execution."""
        self.steps += steps
        self.total += total
        self.largest = max(self.largest, largest)

    @property
    def mean(self) -> float:
        """Updates by others that a step missed on average; NaN where none was measured."""
        return self.total / self.steps if self.steps else float("nan")
