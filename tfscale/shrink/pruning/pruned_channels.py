"""Whole channels that are pruned in the step: `Prune(schedule, pattern="channels")`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.extension import optimized_variables
from tfscale.shrink.pruning.mask_rule import Stages, highest
from tfscale.shrink.pruning.schedules import SparsitySchedule
from tfscale.shrink.structured import ChannelGroup, ChannelSlice, channel_groups, first_matches


@dataclass(frozen=True)
class PrunedGroup:
    """A group of channels that are pruned.

    Attributes:
        group: The channels.
        final: The fraction of them that is pruned at the end. Above 0, below 1.
    """

    group: ChannelGroup
    final: float

    @property
    def slices(self) -> list[ChannelSlice]:
        """Where the weights of its channels are, without what is measured and not trained."""
        return [part for part in self.group.slices if part.role != "statistics"]


def chosen_groups(
    model: Any, final: float, targets: Mapping[str, float], keep: Sequence[str]
) -> list[PrunedGroup]:
    """Returns the groups of channels to prune, in the order of the model.

    Args:
        model: A compiled model, its optimizer built.
        final: The sparsity at the end of groups that no target matches.
        targets: Other sparsities, by regular expressions that match names of groups.
        keep: Regular expressions of groups that are not pruned.

    Raises:
        ValueError: If an expression matches no group, a weight of a group is not trained, the
            sparsity is less than one channel of a group, or nothing would be pruned.
    """
    groups = channel_groups(model).groups
    target = first_matches("targets", targets, groups)
    left_alone = first_matches("keep", keep, groups)
    updated = {id(variable) for variable in optimized_variables(model.optimizer)}
    chosen = [
        PrunedGroup(group, targets[target[name]] if name in target else final)
        for name, group in groups.items()
        if name not in left_alone
    ]
    for each in chosen:
        name = each.group.name
        frozen = [s.variable.path for s in each.slices if id(s.variable) not in updated]
        if frozen:
            raise ValueError(
                '`model` must train all weights of channels that Prune(pattern="channels") prunes. '
                f"Received: the group {name!r}, of which {frozen[0]!r} is frozen. Leave it alone "
                f"with keep=[{name!r}]."
            )
        if math.floor(each.group.count * each.final + 1e-6) < 1:
            raise ValueError(
                "The final sparsity must prune at least one channel of each group. Received: "
                f"{each.final:g} of {each.group.count} in {name!r}. Prune more, or leave it alone "
                f"with keep=[{name!r}]."
            )
    if not chosen:
        raise ValueError(
            "`model` must have channels that can go, and that `keep` leaves. Received: "
            f"{model.name!r}, which has none. Print tfscale.shrink.channel_groups(model): it says "
            "why."
        )
    return chosen


class ChannelRule:
    """Keeps the channels with the highest scores; see `WeightMasks`.

    The score of a channel is that of `ChannelGroup.scores`. Of n channels with the sparsity s the
    floor(s n) with the lowest scores are pruned, but one of each group stays; of equal ones, the
    first. A pruned channel stays pruned.

    Args:
        schedule: The sparsity by step.
        groups: What is pruned.
        is_global: Whether the channels of all groups are compared, by their scores divided by the
            mean of their group, instead of those of each.
    """

    def __init__(
        self, schedule: SparsitySchedule, groups: Sequence[PrunedGroup], *, is_global: bool
    ) -> None:
        self._stages = Stages(schedule)
        self._groups = list(groups)
        self._is_global = is_global
        found = {id(s.variable): s.variable for each in groups for s in each.slices}
        self.variables = list(found.values())
        self._places = {key: place for place, key in enumerate(found)}

    def is_due(self, seen: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
        """Tells whether the sparsity changes in (seen, now]."""
        return self._stages.is_due(seen, now)

    def masks(
        self,
        now: tf.Tensor,
        weights: Sequence[tf.Tensor],
        movements: Sequence[tf.Tensor],
        masks: Sequence[tf.Tensor],
    ) -> list[tf.Tensor]:
        """Returns new masks; see `MaskRule`."""
        fraction = self._stages.fraction(now)
        scores = [self._scores(each, weights, masks) for each in self._groups]
        if self._is_global:
            whole = tf.concat([_with_one(_relative(own)) for own in scores], axis=0)
            kept = _highest_and_one(whole, fraction * self._groups[0].final)
            is_kept = tf.split(kept, [own.shape[0] for own in scores])
        else:
            is_kept = [
                _highest_and_one(_with_one(own), fraction * each.final)
                for own, each in zip(scores, self._groups, strict=True)
            ]
        found = [tf.ones(weight.shape, tf.bool) for weight in weights]
        for each, kept in zip(self._groups, is_kept, strict=True):
            for part in each.slices:
                place = self._places[id(part.variable)]
                along = tf.gather(kept, tf.maximum(part.channels, 0)) | (part.channels < 0)
                shape = [1] * len(part.variable.shape)
                shape[part.axis] = -1
                found[place] &= tf.reshape(along, shape)
        return found

    def _scores(
        self, each: PrunedGroup, weights: Sequence[tf.Tensor], masks: Sequence[tf.Tensor]
    ) -> tf.Tensor:
        """Returns the score of each channel; -inf for those that are pruned already."""
        is_double = any(weight.dtype == tf.float64 for weight in weights)
        dtype = tf.float64 if is_double else tf.float32
        squares = tf.zeros([each.group.count], dtype)
        kept = tf.zeros([each.group.count], tf.int32)
        for part in each.slices:
            place = self._places[id(part.variable)]
            others = [axis for axis in range(len(part.variable.shape)) if axis != part.axis]
            sums = tf.reduce_sum(tf.square(tf.cast(weights[place], dtype)), others)
            used = tf.reduce_any(masks[place], others)
            # A position without a channel of the group has a negative number, which is not counted.
            squares += tf.math.unsorted_segment_sum(sums, part.channels, each.group.count)
            kept += tf.math.unsorted_segment_sum(
                tf.cast(used, tf.int32), part.channels, each.group.count
            )
        return tf.where(kept > 0, tf.sqrt(squares), tf.constant(-math.inf, dtype))


def _with_one(scores: tf.Tensor) -> tf.Tensor:
    """Returns scores of which the highest is infinite, so that its channel stays."""
    best = tf.argsort(scores, stable=True)[-1]
    return tf.where(tf.range(scores.shape[0]) == best, tf.constant(math.inf, scores.dtype), scores)


def _relative(scores: tf.Tensor) -> tf.Tensor:
    """Returns scores divided by the mean of all, of which pruned ones count as zero."""
    is_kept = scores > -math.inf
    total = tf.reduce_sum(tf.where(is_kept, scores, tf.zeros_like(scores)))
    mean = total / tf.cast(scores.shape[0], scores.dtype)
    return scores / tf.where(mean > 0, mean, tf.ones_like(mean))


def _highest_and_one(scores: tf.Tensor, sparsity: tf.Tensor) -> tf.Tensor:
    """Tells which channels are kept: also all with infinite scores."""
    return highest(scores, sparsity) | (scores == math.inf)
