"""What the losses of a range test say about the learning rate: arithmetic on NumPy arrays.

The loss is smoothed over the updates, forwards and backwards alike, so that its features stay at
their rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_DIVERGED = 3.0
_MEMORY = 0.9


def growing_rates(lowest: float, highest: float, steps: int) -> list[float]:
    """Returns rates with equal ratios from `lowest` to `highest`.

    Example:
        >>> [round(rate, 6) for rate in growing_rates(1e-3, 10.0, 5)]
        [0.001, 0.01, 0.1, 1.0, 10.0]
    """
    ratio = math.log(highest / lowest) / (steps - 1)
    return [*(lowest * math.exp(i * ratio) for i in range(steps - 1)), highest]


class Divergence:
    """Tells when a loss has diverged, from one loss after another.

    The running mean, of which each loss is a tenth, has diverged when it is not finite, or above
    its lowest value by three times what it has fallen, or by three times that value if that is
    more.

    Example:
        >>> watch = Divergence()
        >>> [watch.after(loss) for loss in (2.0, 1.0, 1.0, 50.0)]
        [False, False, False, True]
    """

    def __init__(self) -> None:
        self._mean, self._weight = 0.0, 0.0
        self._first = self._lowest = math.inf

    def after(self, loss: float) -> bool:
        """Returns whether the loss has diverged at its next value."""
        self._mean = _MEMORY * self._mean + (1 - _MEMORY) * loss
        self._weight = _MEMORY * self._weight + (1 - _MEMORY)
        mean = self._mean / self._weight
        if not math.isfinite(mean):
            return True
        if math.isinf(self._first):
            self._first = mean
        self._lowest = min(self._lowest, mean)
        margin = _DIVERGED * max(self._first - self._lowest, abs(self._lowest))
        return margin > 0 and mean > self._lowest + margin


def smoothed(losses: Sequence[float], width: float) -> Array:
    """Returns means of the losses with Gaussian weights around each.

    Args:
        losses: Of one update after another.
        width: Standard deviation of the weights, in updates. Positive.

    Example:
        >>> smoothed([1.0, 1.0, 1.0], 2.0).tolist()
        [1.0, 1.0, 1.0]
    """
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * np.square((places[:, None] - places) / width))
    means: Array = weights @ np.asarray(losses, np.float64) / weights.sum(axis=1)
    return means


def steepest(rates: Sequence[float], means: Array) -> int:
    """Returns the place before the lowest mean where the means fall fastest with log(rate).

    The first tenth of the fall is left out: at rates that do not matter yet, slopes are noise.

    Example:
        >>> steepest([1.0, 2.0, 4.0, 8.0, 16.0], np.array([5.0, 4.9, 3.0, 2.0, 6.0]))
        2
    """
    lowest = int(means.argmin())
    top = means[: lowest + 1].max()
    begin = int(np.flatnonzero(means[: lowest + 1] >= top - (top - means[lowest]) / 10)[-1])
    slopes = np.gradient(means, np.log(rates))
    return begin + int(slopes[begin : lowest + 1].argmin())


@dataclass(frozen=True)
class RateCurve:
    """The losses of a range test, and the learning rate that they suggest.

    Attributes:
        rates: The learning rate of each update, ascending.
        losses: Of each update, before it: the mean over the global batch.
        smoothed: The losses, smoothed over neighbouring updates.
        suggestion: The rate to train with: a third of `minimum`.
        steepest: The rate at which the smoothed loss falls fastest.
        minimum: The rate at which the smoothed loss is lowest. Training at it is not stable.
        has_diverged: Whether the test ended early because the loss diverged. If not, the loss may
            fall further beyond the highest rate.
        is_for_peak: Whether the model's rate is a schedule; the suggestion is for its peak.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float
    steepest: float
    minimum: float
    has_diverged: bool
    is_for_peak: bool

    @property
    def minimum_tenth(self) -> float:
        """A tenth of `minimum`: a careful choice for long training."""
        return self.minimum / 10
