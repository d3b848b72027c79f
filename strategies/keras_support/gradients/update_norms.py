"""Norms of gradients, weights and updates, weight by weight, measured inside of the step.

They are those of what the optimizer applies: gradients are reduced over the replicas and unscaled,
before clipping; an update is what an optimizer with its momentum, decay and clipping has changed. A
step that is skipped leaves them as they were. No step changes, and replicas do not communicate.
"""

from __future__ import annotations

import threading
from typing import Any

import tensorflow as tf

from strategies.keras_support.gradients.gradient_reduce import Gradient
from strategies.keras_support.gradients.gradient_watch import global_norm, judging_variable
from strategies.keras_support.gradients.ruled_weights import RuledWeights


class _Step(threading.local):
    """What a replica's step, which is being traced, has before its update."""

    def __init__(self) -> None:
        self.gradients: dict[int, tf.Tensor] = {}
        self.weights: dict[int, tf.Tensor] = {}


class UpdateNorms(RuledWeights):
    """Norms of the newest step, for all weights that an optimizer updates.

    Args:
        model: A compiled model under a strategy of this package, its optimizer built.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model, model.trainable_variables)
        self._step = _Step()
        with self.strategy.scope():
            # Rows: of gradients, of weights before the update, of updates.
            self._norms = judging_variable([3, len(self.weights)], "float64")

    @property
    def variables(self) -> list[Any]:
        """What the steps write; see `UpdateRule`."""
        return [self._norms]

    @property
    def averaged(self) -> list[Any]:
        """Nothing: in a round of local steps, those of the first replica are read."""
        return []

    def after_round(self) -> None:
        """Does nothing: norms are those of a step."""

    def values(self) -> list[tuple[str, float, float, float]]:
        """Returns path, norm of the gradient, of the weight and of the update, for each weight."""
        rows = self._own(self._norms).numpy().T.tolist()
        return [(w.path, *row) for w, row in zip(self.weights, rows, strict=True)]

    def _gradient(self, optimizer: Any, place: int, gradient: Gradient) -> Gradient:
        """Notes the gradient of a weight, and returns it as it is."""
        self._step.gradients[place] = global_norm([gradient], optimizer.loss_scale_factor)
        self._step.weights[place] = tf.identity(self.weights[place].value)
        return gradient

    def after_update(self, optimizer: Any) -> None:
        """Writes the norms of the step; in replica context."""
        zero = tf.zeros([], tf.float64)
        columns = [(zero, zero, zero)] * len(self.weights)
        for place, before in self._step.weights.items():
            update = tf.convert_to_tensor(self.weights[place].value) - before
            norms = self._step.gradients[place], global_norm([before], None)
            columns[place] = (*norms, global_norm([update], None))
        self._step.gradients, self._step.weights = {}, {}
        self._norms.assign(tf.stack([tf.stack(row) for row in zip(*columns, strict=True)]))
