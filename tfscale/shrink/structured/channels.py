"""Channels: what can be taken out of a model, and which positions of which axes are one channel.

A channel has a number. The numbers along an axis of a tensor or of a weight are its *labels*: an
array with one number for each position, or None for an axis that always stays whole, such as the
batch. Layers move labels as they move positions: a concatenation puts labels behind each other, a
flattening repeats them. Where two positions must go together, their numbers are tied.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Labels = tuple[Numbers | None, ...]
"""Of a tensor: for each axis the numbers of its channels, or None."""


class Channels:
    """Numbers of channels; which are the same channel, and which stay, and why."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def new(self, count: int) -> Numbers:
        """Returns numbers of channels that nothing is tied to yet."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def tie(self, one: Numbers | None, other: Numbers | None, reason: str) -> Numbers | None:
        """Makes the channels at equal positions of two axes one; returns labels of both.

        Args:
            one: Labels of an axis.
            other: Labels of an axis of the same size. If one of the two axes stays whole, so does
                the other.
            reason: Why it does.
        """
        if one is None or other is None:
            known = other if one is None else one
            self.keep(known, reason)
            return known
        if len(one) != len(other):
            raise RuntimeError(f"Axes of {len(one)} and {len(other)} positions are tied: {reason}.")
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            first, second = self._root(a), self._root(b)
            self._parents[max(first, second)] = min(first, second)
        return one

    def keep(self, labels: Numbers | None, reason: str) -> None:
        """Keeps channels in the model, for the first reason that is given."""
        for number in () if labels is None else labels.tolist():
            self._reasons.setdefault(number, reason)

    def resolved(self, labels: Numbers) -> Numbers:
        """Returns one number for each channel, the same wherever it occurs."""
        return np.array([self._root(number) for number in labels.tolist()], np.int64)

    def reasons(self) -> dict[int, str]:
        """Returns why channels stay, by their resolved numbers; without those that may go."""
        found: dict[int, str] = {}
        for number, reason in self._reasons.items():
            found.setdefault(self._root(number), reason)
        return found

    def _root(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number
