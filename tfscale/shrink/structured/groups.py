"""Groups of channels: which channels of a model can go, and every weight that each of them has."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from strategies.extension import all_layers, is_divided, is_sharded
from tfscale.preparation.model_copy import value_of
from tfscale.shrink.structured.channels import Numbers
from tfscale.shrink.structured.tensor_rules import TENSOR_RULES, operation_rule
from tfscale.shrink.structured.tracing import Role, Rule, Trace, WeightAxis, traced
from tfscale.shrink.structured.weight_rules import WEIGHT_RULES

Array = np.ndarray[Any, Any]
_RULES: dict[type, Rule] = {**WEIGHT_RULES, **TENSOR_RULES}


@dataclass(frozen=True)
class ChannelSlice:
    """Where the channels of a group lie along an axis of a weight.

    Attributes:
        variable: The Keras variable.
        axis: Counted from 0.
        channels: int64 [size of the axis]: the channel at each position, in [0, count); -1 where
            there is none of this group.
        role: "makes" if the weight computes the channels, "follows" if it changes each by itself,
            "reads" if it computes other values from them, "statistics" if it is measured on them
            and not trained.
    """

    variable: Any
    axis: int
    channels: Numbers
    role: Role


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of a model that lie along the same axes, and of which any but one can go.

    A channel is a column of Dense, a filter of a convolution, or a head of MultiHeadAttention. If
    layers are added up, one channel has a filter of each.

    Attributes:
        name: The name of the first layer that makes the channels; with "#2" and so on if it makes
            several groups. A layer inside of another model has its name in front, "inner/dense".
        layers: The names of all layers that make them.
        count: How many there are.
        slices: Every axis of every weight that they have.
    """

    name: str
    layers: tuple[str, ...]
    count: int
    slices: tuple[ChannelSlice, ...]

    def scores(self) -> Array:
        """Returns how large the weights of each channel are, float64 [count].

        The score of channel c is sqrt(sum w^2) over all its weights: of the layers that make,
        change and read it. Statistics do not count.

        Source: Fang et al. 2023, DepGraph, arXiv:2301.12900, section 3.3, with all weights alike.
        """
        squares = np.zeros(self.count)
        for part in self.slices:
            if part.role != "statistics":
                along = np.moveaxis(np.asarray(value_of(part.variable), np.float64), part.axis, 0)
                sums = np.square(along).reshape(len(part.channels), -1).sum(axis=1)
                mine = part.channels >= 0
                squares += np.bincount(part.channels[mine], sums[mine], self.count)
        return np.sqrt(squares)

    def masked(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Tells which channels have no weight but zeros, bool [count]."""
        is_used = np.zeros(self.count, bool)
        for part in self.slices:
            if part.role != "statistics":
                along = np.moveaxis(np.asarray(value_of(part.variable)), part.axis, 0)
                used = (along != 0).reshape(len(part.channels), -1).any(axis=1)
                is_used[part.channels[used & (part.channels >= 0)]] = True
        return ~is_used


@dataclass(frozen=True)
class ChannelGroups:
    """The channels of a model: those that can go, and those that stay.

    Attributes:
        groups: By their names, in the order of the model.
        kept: The layers that make channels which stay, all or some, and why, by their names.
        whole: Layers and operations that are left whole, and why, by their names.
    """

    groups: dict[str, ChannelGroup]
    kept: dict[str, str]
    whole: dict[str, str]

    def __str__(self) -> str:
        """Returns a line for each group, and for each layer that keeps channels."""
        lines = [f"{sum(g.count for g in self.groups.values())} channels can go:"]
        for group in self.groups.values():
            others = ", ".join(group.layers[1:])
            with_them = f", together with {others}" if others else ""
            lines.append(f"  {group.name}: {group.count}, {group.masked().sum()} masked{with_them}")
        lines += ["stay:", *(f"  {name}: {reason}" for name, reason in self.kept.items())]
        if self.whole:
            lines += ["left whole:", *(f"  {name} {reason}" for name, reason in self.whole.items())]
        return "\n".join(lines)


@dataclass(frozen=True)
class TracedGroups:
    """The groups of a model with what they were found from.

    Attributes:
        report: The groups.
        trace: What is known of each weight and layer.
        numbers: For each group, the resolved number of each channel, by its name.
    """

    report: ChannelGroups
    trace: Trace
    numbers: dict[str, Numbers]


def channel_groups(model: keras.Model) -> ChannelGroups:
    """Finds the channels that can be taken out of a model, with the weights that belong together.

    Channels are followed through the layers: over sums and products, where they are tied to
    others; over concatenation, flattening and shared layers; through BatchNormalization and
    depthwise convolutions. Inputs and outputs of the model stay whole. So does what a layer mixes
    over all channels, such as LayerNormalization, and what goes into a layer without a rule; `kept`
    and `whole` say why.

    Args:
        model: A Functional or built Sequential model, with such models inside or without.

    Returns:
        The groups. `print` shows them.

    Raises:
        ValueError: If the model's graph is not known, or its weights are divided over devices.

    Example:
        >>> layers = [keras.Input([2]), keras.layers.Dense(4, name="up"), keras.layers.Dense(1)]
        >>> groups = channel_groups(keras.Sequential(layers))
        >>> [(group.name, group.count) for group in groups.groups.values()]
        [('up', 4)]
    """
    return traced_groups(model).report


def traced_groups(model: keras.Model) -> TracedGroups:
    """Returns `channel_groups` with what they were found from.

    Example:
        >>> layers = [keras.Input([2]), keras.layers.Dense(4, name="up"), keras.layers.Dense(1)]
        >>> len(traced_groups(keras.Sequential(layers)).trace.axes)
        6
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: model={model!r}.")
    if any(map(is_divided, all_layers(model))) or any(map(is_sharded, model.variables)):
        raise ValueError(
            f"`model` must have whole weights. Received: {model.name!r}, whose weights are divided "
            "over devices. Save it, and load it under another strategy or none."
        )
    trace = traced(model, _rule_of)
    axes = list(trace.axes.values())
    resolved = [trace.channels.resolved(axis.labels) for axis in axes]
    reasons = trace.channels.reasons()
    groups: dict[str, ChannelGroup] = {}
    numbers: dict[str, Numbers] = {}
    for members in _members(axes, resolved, reasons):
        group = _group(axes, resolved, members)
        copies = sum(group.layers[0] == other.layers[0] for other in groups.values())
        name = f"{group.name}#{copies + 1}" if copies else group.name
        groups[name] = ChannelGroup(name, group.layers, group.count, group.slices)
        numbers[name] = members
    report = ChannelGroups(groups, _kept(axes, resolved, reasons), dict(trace.unknown))
    return TracedGroups(report, trace, numbers)


def _rule_of(operation: Any) -> Rule | None:
    """Returns the rule of exactly this class: one that is derived may do something else."""
    return _RULES.get(type(operation)) or operation_rule(operation)


def _members(
    axes: list[WeightAxis], resolved: list[Numbers], reasons: dict[int, str]
) -> Iterator[Numbers]:
    """Yields the channels of each group: those that lie along the same axes, and may go."""
    places: dict[int, list[int]] = defaultdict(list)
    for index, numbers in enumerate(resolved):
        for number in dict.fromkeys(numbers.tolist()):
            places[number].append(index)
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, where in places.items():
        is_made = any(axes[index].role == "makes" for index in where)
        if number not in reasons and is_made:
            found[tuple(where)].append(number)
    for members in found.values():
        yield np.array(members, np.int64)


def _group(axes: list[WeightAxis], resolved: list[Numbers], members: Numbers) -> ChannelGroup:
    index_of = {number: index for index, number in enumerate(members.tolist())}
    slices, makers = [], []
    for axis, numbers in zip(axes, resolved, strict=True):
        channels = np.array([index_of.get(number, -1) for number in numbers.tolist()], np.int64)
        if (channels >= 0).any():
            slices.append(ChannelSlice(axis.variable, axis.axis, channels, axis.role))
            makers += [axis.layer] if axis.role == "makes" else []
    layers = tuple(dict.fromkeys(makers))
    return ChannelGroup(layers[0], layers, len(members), tuple(slices))


def _kept(
    axes: list[WeightAxis], resolved: list[Numbers], reasons: dict[int, str]
) -> dict[str, str]:
    kept: dict[str, str] = {}
    for axis, numbers in zip(axes, resolved, strict=True):
        if axis.role == "makes":
            why = Counter(reasons[number] for number in numbers.tolist() if number in reasons)
            for reason, count in why.most_common(1):
                kept.setdefault(axis.layer, f"{count} of {len(numbers)}, because {reason}")
    return kept
