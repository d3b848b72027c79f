"""Masks whole channels: sets all weights of a channel to zero."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from strategies.extension import one_of, sequence
from tfscale.preparation.model_copy import value_of
from tfscale.shrink.refusals import refuse_not_finite
from tfscale.shrink.structured.groups import ChannelGroup, ChannelGroups, channel_groups

_SCOPES = ("group", "global")


def mask_channels(
    model: keras.Model,
    fraction: float | Mapping[str, float],
    *,
    scope: str = "group",
    keep: Sequence[str] = (),
) -> dict[str, int]:
    """Sets the weights of the least important channels of a model to zero, once.

    A masked channel has no weight but zeros, in the layers that make, change and read it, so it
    does not change the model's outputs any more. The model keeps its shapes; `cut` makes a smaller
    one. Training goes on as usual, so a plain optimizer would revive masked channels: cut first.

    Args:
        model: See `channel_groups`. Its weights are changed.
        fraction: Of the channels to mask, in [0, 1); or several, by regular expressions that match
            whole names of groups. The first that matches a group counts, and groups without one are
            left as they are. Channels that are masked already count. Of n channels,
            `round(fraction * n)` are masked, but one of each group always stays.
        scope: "group": the fraction is that of each group. "global": it is that of all channels
            together, whose scores are divided by the mean of their group.
        keep: Regular expressions; groups whose whole names they match are left as they are.

    Returns:
        The number of masked channels of each group, by its name.

    Raises:
        ValueError: If an argument is impossible, no channel of the model can go, or a weight is
            not finite.

    Example:
        >>> layers = [keras.Input([2]), keras.layers.Dense(4, name="up"), keras.layers.Dense(1)]
        >>> mask_channels(keras.Sequential(layers), 0.5)
        {'up': 2}
    """
    report = channel_groups(model)
    if not report.groups:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in report.kept.items())
        raise ValueError(
            f"`model` must have channels that can go. Received: {model.name!r}, where all stay: "
            f"{reasons}."
        )
    one_of("scope", scope, _SCOPES)
    refuse_not_finite(model.weights, "mask_channels")
    fractions = _fractions(report, fraction, scope, keep)
    groups = [report.groups[name] for name in fractions]
    scores = {group.name: group.scores() for group in groups}
    if scope == "group":
        chosen = {
            name: _lowest(own, round(fractions[name] * len(own))) for name, own in scores.items()
        }
    else:
        chosen = _lowest_of_all(scores, next(iter(fractions.values()), 0.0))
    for group in groups:
        _mask(group, chosen[group.name])
    return {name: int(group.masked().sum()) for name, group in report.groups.items()}


def _fractions(
    report: ChannelGroups, fraction: float | Mapping[str, float], scope: str, keep: Sequence[str]
) -> dict[str, float]:
    """Returns the fraction of each group that is to be masked."""
    given = fraction if isinstance(fraction, Mapping) else {".*": fraction}
    left_alone = first_matches("keep", sequence("keep", keep), report.groups)
    for value in given.values():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < 1:
            raise ValueError(
                f"`fraction` must be a number in [0, 1). Received: fraction={value!r}. 0.5 masks "
                "every second channel."
            )
    if scope == "global" and isinstance(fraction, Mapping):
        raise ValueError(
            '`fraction` must be one number with scope="global". Received: a mapping. Name groups '
            "that stay in `keep`."
        )
    first = first_matches("fraction", given, report.groups)
    return {name: float(given[first[name]]) for name in first if name not in left_alone}


def first_matches(
    argument: str, expressions: Iterable[str], groups: Iterable[str]
) -> dict[str, str]:
    """Returns the first expression that matches each group, by the names of groups that have one.

    Args:
        argument: What the expressions are called, for the message.
        expressions: Regular expressions that match whole names.
        groups: The names of all groups.

    Raises:
        ValueError: If an expression is none, or matches no group.

    Example:
        >>> first_matches("keep", ["up.*"], ["up", "up#2", "down"])
        {'up': 'up.*', 'up#2': 'up.*'}
    """
    found: dict[str, str] = {}
    for expression in expressions:
        try:
            names = [name for name in groups if re.fullmatch(expression, name)]
        except (re.error, TypeError):
            names = []
        if not names:
            raise ValueError(
                f"`{argument}` must have regular expressions that match groups of channels. "
                f"Received: {expression!r}. The groups are {', '.join(groups)}."
            )
        for name in names:
            found.setdefault(name, expression)
    return found


def _lowest(scores: Any, count: int) -> Any:
    """Returns the channels with the lowest scores; of equal ones the first. One stays."""
    return np.argsort(scores, kind="stable")[: min(count, len(scores) - 1)]


def _lowest_of_all(scores: dict[str, Any], fraction: float) -> dict[str, Any]:
    relative = {name: own / (own.mean() or 1.0) for name, own in scores.items()}
    # The best channel of each group stays, so it is no candidate.
    best = {name: int(np.argsort(own, kind="stable")[-1]) for name, own in relative.items()}
    candidates = [
        (score, name, channel)
        for name, own in relative.items()
        for channel, score in enumerate(own.tolist())
        if channel != best[name]
    ]
    candidates.sort(key=lambda candidate: candidate[0])
    count = round(fraction * sum(map(len, scores.values())))
    chosen: dict[str, list[int]] = {name: [] for name in scores}
    for _, name, channel in candidates[:count]:
        chosen[name].append(channel)
    return {name: np.array(channels, np.int64) for name, channels in chosen.items()}


def _mask(group: ChannelGroup, masked: Any) -> None:
    for part in group.slices:
        if part.role != "statistics":
            value = np.moveaxis(np.array(value_of(part.variable)), part.axis, 0)
            value[np.isin(part.channels, masked)] = 0
            part.variable.assign(np.moveaxis(value, 0, part.axis))
