"""The result of a range test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tfscale.find.picture import svg_picture, text_picture
from tfscale.find.rate_curve import RateCurve, smoothed, steepest

_LEAST_LOSSES = 10
_WIDTH = 0.03  # of the updates of a whole test


@dataclass(frozen=True)
class FoundRate(RateCurve):
    """The losses of a range test, and the learning rate that they suggest; print it.

    `tfscale.find_learning_rate` returns it.

    Attributes:
        rates: The learning rate of each update, ascending.
        losses: Of each update, before it: the mean over the global batch.
        smoothed: The losses, smoothed over neighbouring updates.
        suggestion: The rate to train with: a third of `minimum`.
        steepest: The rate at which the smoothed loss falls fastest.
        minimum: The rate at which the smoothed loss is lowest. Training at it is not stable.
        has_diverged: Whether the test ended early because the loss diverged.
        is_for_peak: Whether the model's rate is a schedule; the suggestion is for its peak.
    """

    def picture(self) -> str:
        """Returns an SVG of the losses over the rates, to write to a file."""
        return svg_picture(self)

    def as_json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return {**asdict(self), "minimum_tenth": self.minimum_tenth}

    def __str__(self) -> str:
        return text_picture(self)


def found_rate(
    rates: Sequence[float], losses: Sequence[float], *, has_diverged: bool, is_for_peak: bool
) -> FoundRate:
    """Returns what a range test found.

    Args:
        rates: Of the updates, ascending.
        losses: Of the first updates, finite.
        has_diverged: Whether the test ended early.
        is_for_peak: Whether the model's rate is a schedule.

    Raises:
        ValueError: If the losses are too few, or never fall.
    """
    if len(losses) < _LEAST_LOSSES:
        raise ValueError(
            f"`lowest` must be a rate at which the loss is finite for {_LEAST_LOSSES} updates. "
            f"Received: lowest={rates[0]:g} and {len(losses)} finite losses. Choose a lower one, "
            "or look for NaN in the data."
        )
    means = smoothed(losses, _WIDTH * len(rates))
    rates = tuple(rates[: len(losses)])
    lowest = int(means.argmin())
    if lowest == 0:
        raise ValueError(
            "`lowest` must be a rate at which the loss still falls when it grows. Received: "
            f"lowest={rates[0]:g}, at which the loss is {means[0]:.4g} and lowest of all. Choose a "
            "lower one; if that does not help, no rate makes this model learn in so few updates."
        )
    return FoundRate(
        rates=rates,
        losses=tuple(losses),
        smoothed=tuple(means.tolist()),
        suggestion=rates[lowest] / 3,
        steepest=rates[steepest(rates, means)],
        minimum=rates[lowest],
        has_diverged=has_diverged,
        is_for_peak=is_for_peak,
    )
