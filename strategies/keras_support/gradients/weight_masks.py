"""Masks of weights: where a mask is False, the weight is zero after each update.

Before an update the gradients of such weights become zero, so accumulation and clipping see the
kept weights only. After it the weights, and the moving averages of them that Keras keeps, are zero
there again, whatever momentum or decay did.

The masks are computed again inside the step, from the weights after the update, so they are the
same whatever the number of steps in an execution. Replicas have equal weights then, so equal masks
need no communication. Replicas that step locally differ, and compute masks when they have been
averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from strategies.keras_support.gradients.gradient_reduce import Gradient
from strategies.keras_support.gradients.gradient_watch import judging_variable
from strategies.keras_support.gradients.local_steps import updates_locally
from strategies.keras_support.gradients.ruled_weights import RuledWeights
from strategies.keras_support.gradients.update_rules import innermost
from strategies.keras_support.model.replica_values import assign_value

Array = np.ndarray[Any, Any]


class MaskRule(Protocol):
    """Says when masks change, and which weights they keep. Computes with tensors only."""

    def is_due(self, seen: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
        """Tells whether masks change after an update in (seen, now].

        Args:
            seen: int64 scalar, the updates when this was asked before; -1 at first.
            now: int64 scalar, the updates so far.
        """

    def masks(
        self,
        now: tf.Tensor,
        weights: Sequence[tf.Tensor],
        movements: Sequence[tf.Tensor],
        masks: Sequence[tf.Tensor],
    ) -> list[tf.Tensor]:
        """Returns new masks, True where a weight is kept.

        Args:
            now: int64 scalar, the updates so far.
            weights: As they are after the update.
            movements: See `WeightMasks`; empty if they are not summed.
            masks: The masks so far.
        """


class WeightMasks(RuledWeights):
    """The masks of some weights of a model, which are zero where a mask is False.

    Args:
        model: A compiled model under a strategy of this package, its optimizer built.
        weights: Of the variables that its optimizer updates.
        rule: Computes the masks. At first nothing is masked.
        sums_movement: Whether to sum up, for each weight w with the gradient g of the global batch
            before an update, -w g: positive if the updates move w away from zero.
        num_updates: The updates so far, where the optimizer counts from 0 again.

    Source of the movement: Sanh et al. 2020, arXiv:2005.07683, section 4.
    """

    def __init__(
        self,
        model: Any,
        weights: Sequence[Any],
        rule: MaskRule,
        *,
        sums_movement: bool = False,
        num_updates: int = 0,
    ) -> None:
        super().__init__(model, weights)
        optimizer = innermost(model.optimizer)
        self._iterations = optimizer._iterations
        self._steps_of_update = optimizer.gradient_accumulation_steps or 1
        self._rule = rule
        with self.strategy.scope():
            self.masks = [judging_variable(list(w.shape), "bool") for w in self.weights]
            self.movements = [
                judging_variable(list(w.shape), "float64" if w.dtype == "float64" else "float32")
                for w in (self.weights if sums_movement else ())
            ]
            self._first = judging_variable([], "int64")
            self._seen = judging_variable([], "int64")
        for mask in self.masks:
            mask.assign(tf.ones(mask.shape, tf.bool))
        self.set_updates(num_updates)
        if num_updates == 0:
            self._seen.assign(-1)  # a rule may prune before the first update

    @property
    def variables(self) -> list[Any]:
        """What the steps write; see `UpdateRule`."""
        return [*self.masks, *self.movements, self._first, self._seen]

    @property
    def averaged(self) -> list[Any]:
        """What differs by replica in a round of local steps; see `UpdateRule`."""
        return self.movements

    @property
    def num_updates(self) -> int:
        """The updates so far; a skipped step and a part of an accumulated gradient are none."""
        return int(self._now())

    def set_updates(self, num_updates: int) -> None:
        """Sets the number of updates so far, for which masks have been computed."""
        self._first.assign(int(self._count()) - num_updates)
        self._seen.assign(num_updates)

    def values(self) -> tuple[list[Array], list[Array]]:
        """Returns the masks and the movements."""
        masks, movements = (
            [self._own(variable).numpy() for variable in variables]
            for variables in (self.masks, self.movements)
        )
        return masks, movements

    def assign(self, masks: Sequence[Array], movements: Sequence[Array]) -> None:
        """Sets the masks and the movements, on all replicas."""
        pairs = zip([*self.masks, *self.movements], [*masks, *movements], strict=True)
        for variable, value in pairs:
            assign_value(self.strategy, variable, value)

    def mask_weights(self) -> None:
        """Makes weights and moving averages zero where a mask is False; outside of a step."""
        for mask, masked in self._masked():
            is_kept = self._own(mask).numpy()
            for variable in masked:
                value = self._own(variable).numpy()
                assign_value(
                    self.strategy, variable, np.where(is_kept, value, np.zeros_like(value))
                )

    def after_round(self) -> None:
        """Computes the masks if that is due; outside of a step, where replicas are equal."""
        now = self._now()
        is_due = bool(self._rule.is_due(self._own(self._seen), now))
        self._seen.assign(now)
        if not is_due:
            return
        own = [[self._own(v) for v in each] for each in (self.weights, self.movements, self.masks)]
        for mask, value in zip(self.masks, self._rule.masks(now, *own), strict=True):
            assign_value(self.strategy, mask, value.numpy())
        self.mask_weights()

    def _gradient(self, optimizer: Any, place: int, gradient: Gradient) -> Gradient:
        """Returns a gradient that is zero where the mask is False, and sums up the movement."""
        kept = _kept(gradient, self.masks[place].value)
        if self.movements:
            scale = optimizer.loss_scale_factor
            self._move(self.movements[place], self.weights[place], kept, scale)
        return kept

    def _move(self, movement: Any, weight: Any, gradient: Gradient, scale: float | None) -> None:
        dtype = movement.dtype
        whole = tf.cast(tf.convert_to_tensor(gradient), dtype)
        if scale is not None:
            whole /= tf.cast(scale, dtype)
        movement.assign(movement.value - tf.cast(weight.value, dtype) * whole)

    def after_update(self, optimizer: Any) -> None:
        """Computes the masks if that is due, and masks the weights; in replica context."""
        if not updates_locally(optimizer):
            self._renew()
        for mask, masked in self._masked():
            is_kept = tf.convert_to_tensor(mask.value)
            for variable in masked:
                value = tf.convert_to_tensor(variable.value)
                variable.assign(tf.where(is_kept, value, tf.zeros_like(value)))

    def _renew(self) -> None:
        now = self._count() - self._first.value

        def renew() -> None:
            tensors = [
                [tf.convert_to_tensor(v.value) for v in each]
                for each in (self.weights, self.movements, self.masks)
            ]
            for mask, value in zip(self.masks, self._rule.masks(now, *tensors), strict=True):
                mask.assign(value)

        tf.cond(self._rule.is_due(tf.identity(self._seen.value), now), renew, lambda: None)
        self._seen.assign(now)

    def _masked(self) -> list[tuple[Any, list[Any]]]:
        """Returns each mask with the variables that are zero where it is False."""
        return list(zip(self.masks, self._with_averages(), strict=True))

    def _now(self) -> tf.Tensor:
        return self._count() - self._own(self._first)

    def _count(self) -> tf.Tensor:
        """Returns the updates of the optimizer, also of one that is no longer used."""
        steps = tf.cast(tf.convert_to_tensor(self._iterations.value), tf.int64)
        return steps // self._steps_of_update


def _kept(gradient: Gradient, is_kept: Any) -> Gradient:
    """Returns a gradient with zeros, inf and NaN included, where a mask is False."""
    if isinstance(gradient, tf.IndexedSlices):
        rows = tf.gather(is_kept, gradient.indices)
        values = _kept(gradient.values, rows)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return tf.where(is_kept, gradient, tf.zeros_like(gradient))
