"""Schedules of sparsity: which fraction of the weights is zero after how many steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Protocol

from strategies.extension import number, whole_number


class SparsitySchedule(Protocol):
    """The sparsity over the steps of a training, from 0 to `final`.

    A step is an update of the weights, counted from the first with the callback. The sparsity must
    not fall. With `step >= changes()[-1]` it is `final`.
    """

    @property
    def final(self) -> float:
        """The sparsity at the end, above 0 and below 1."""

    def changes(self) -> Sequence[int]:
        """Returns the steps after which the sparsity changes, ascending; 0 is before the first."""

    def __call__(self, step: int) -> float:
        """Returns the sparsity after so many steps."""


def checked_sparsity(name: str, value: object) -> float:
    """Returns a fraction of weights that are zero.

    Raises:
        ValueError: If `value` is not a number above 0 and below 1.
    """
    rule = "above 0 and below 1: the fraction of weights that become zero"
    return number(name, value, rule, lambda s: 0 < s < 1, cure="Pass 0.8 for 80 %.")


@dataclass(frozen=True)
class CubicSparsity:
    """Prunes fast at first, while many weights can be spared, and slowly at the end.

    After step t in [begin, end] the sparsity is final * (1 - (1 - (t - begin) / (end - begin))^3),
    with t at the last multiple of `every` after `begin`.

    Attributes:
        final: The sparsity from step `end` on. Above 0, below 1.
        begin: Steps before pruning begins, at least 0.
        end: The step with the last change. Above `begin`.
        every: Steps between two changes. Positive, and a divisor of `end - begin`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> schedule = CubicSparsity(0.8, begin=100, end=300, every=100)
        >>> [round(schedule(step), 3) for step in (100, 199, 200, 300, 900)]
        [0.0, 0.0, 0.7, 0.8, 0.8]

    Source: Zhu and Gupta 2017, arXiv:1710.01878, equation 1, with an initial sparsity of 0.
    """

    final: float
    _: KW_ONLY
    begin: int = 0
    end: int
    every: int = 100

    def __post_init__(self) -> None:
        checked_sparsity("final", self.final)
        whole_number("begin", self.begin, at_least=0, cure="Count steps.")
        whole_number("end", self.end, cure="Count steps.")
        whole_number("every", self.every, cure="Count steps.")
        if self.end <= self.begin:
            raise ValueError(
                f"`end` must be above `begin`. Received: end={self.end}, begin={self.begin}. Pass "
                "OneShot(final) to prune all at once."
            )
        if (self.end - self.begin) % self.every:
            raise ValueError(
                "`every` must divide end - begin, so that the last change is at `end`. Received: "
                f"every={self.every}, end - begin={self.end - self.begin}. Pass "
                f"end={self.begin + -(-(self.end - self.begin) // self.every) * self.every}."
            )

    def changes(self) -> Sequence[int]:
        """Returns the steps after which the sparsity changes."""
        return range(self.begin + self.every, self.end + 1, self.every)

    def __call__(self, step: int) -> float:
        """Returns the sparsity after so many steps."""
        passed = min(max(step - self.begin, 0), self.end - self.begin)
        left = 1 - (passed - passed % self.every) / (self.end - self.begin)
        return float(self.final * (1 - left**3))


@dataclass(frozen=True)
class ConstantSparsity:
    """Prunes everything after a step, such as one at which the loss has become flat.

    Attributes:
        final: The sparsity from that step on. Above 0, below 1.
        begin: The step. Positive; `OneShot` prunes before the first one.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> [ConstantSparsity(0.5, begin=200)(step) for step in (199, 200)]
        [0.0, 0.5]
    """

    final: float
    _: KW_ONLY
    begin: int

    def __post_init__(self) -> None:
        checked_sparsity("final", self.final)
        whole_number(
            "begin", self.begin, cure="Pass OneShot(final) to prune before the first step."
        )

    def changes(self) -> Sequence[int]:
        """Returns the step after which the sparsity changes."""
        return (self.begin,)

    def __call__(self, step: int) -> float:
        """Returns the sparsity after so many steps."""
        return float(self.final) if step >= self.begin else 0.0


@dataclass(frozen=True)
class OneShot:
    """Prunes a trained model before the first step; the steps then tune the weights that are left.

    A model that was pruned before, and loaded from a file, keeps its zeros under `OneShot` with the
    same sparsity and pattern.

    Attributes:
        final: The sparsity. Above 0, below 1.

    Raises:
        ValueError: If it is out of range.

    Example:
        >>> OneShot(0.5)(0)
        0.5
    """

    final: float

    def __post_init__(self) -> None:
        checked_sparsity("final", self.final)

    def changes(self) -> Sequence[int]:
        """Returns the step after which the sparsity changes: before all others."""
        return (0,)

    def __call__(self, step: int) -> float:
        """Returns the sparsity after so many steps."""
        return float(self.final)
