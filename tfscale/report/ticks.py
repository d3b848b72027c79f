"""The positions and labels of the ticks of an axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LARGEST = 1e300  # Beyond this the arithmetic of an axis overflows.
_LOG_RATIO = 1000  # More than this between the largest and the smallest asks for a logarithm.


@dataclass(frozen=True)
class Axis:
    """A range of values and their places on an axis.

    Attributes:
        low: Smallest value on the axis.
        high: Largest value on the axis, above `low`.
        ticks: Values with a tick, ascending.
        labels: The text at each tick.
        is_log: Whether equal distances are equal ratios.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    is_log: bool = False

    def place(self, value: float) -> float:
        """Returns the place of a value: 0 at `low`, 1 at `high`."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)

    def placed(self) -> Iterator[tuple[float, str]]:
        """Yields the place and the label of each tick."""
        return zip(map(self.place, self.ticks), self.labels, strict=True)

    @property
    def widest(self) -> str:
        """The longest label; "0" without a tick."""
        return max(self.labels, key=len, default="0")


def value_axis(values: Sequence[float], scale: str = "auto", *, intervals: int = 5) -> Axis:
    """Returns an axis that starts and ends at ticks and spans every value.

    Args:
        values: Finite values up to `LARGEST` in size. Without any, the axis is from 0 to 1.
        scale: "linear", "log" or "auto": log where all values are positive and the largest is more
            than 1000 times the smallest. Values that are not all positive are never on a log axis.
        intervals: The largest number of intervals between ticks.

    Example:
        >>> value_axis([0.12, 0.93]).labels
        ('0.0', '0.2', '0.4', '0.6', '0.8', '1.0')
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    is_spread = high / _LOG_RATIO > low
    if low > 1 / LARGEST and (scale == "log" or (scale == "auto" and is_spread)):
        return _log_axis(low, high, intervals)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        # One value, apart from rounding: it is in the middle.
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    step = _nice_step((high - low) / intervals)
    ticks = [n * step for n in range(math.floor(low / step), math.ceil(high / step) + 1)]
    # n * step may be an ulp short of its value.
    ends = min(low, ticks[0]), max(high, ticks[-1])
    return Axis(*ends, tuple(ticks), tuple(_label(tick, step, ticks) for tick in ticks))


def count_axis(first: int, last: int, *, intervals: int = 5) -> Axis:
    """Returns an axis of whole numbers that ends where they end; a single one is in the middle.

    Args:
        first: The smallest.
        last: The largest, not below `first`.
        intervals: The largest number of intervals between ticks.

    Example:
        >>> count_axis(1, 40).labels
        ('10', '20', '30', '40')
    """
    if first == last:
        return Axis(first - 0.5, last + 0.5, (first,), (f"{first:,}",))
    step = round(_nice_step(max(1.0, (last - first) / intervals)))
    ticks = tuple(range(-(-first // step) * step, last + 1, step))
    return Axis(first, last, ticks, _counts(ticks))


def _nice_step(least: float) -> float:
    """Returns the smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return power * next((f for f in (1, 2, 5) if f * power >= least * (1 - 1e-9)), 10)


def _log_axis(low: float, high: float, intervals: int) -> Axis:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    every = -(-(last - first) // intervals)
    powers = range(first, last + every, every)
    ticks = tuple(10.0**power for power in powers)
    ends = min(low, ticks[0]), max(high, ticks[-1])
    return Axis(*ends, ticks, tuple(_power(power) for power in powers), is_log=True)


def _power(power: int) -> str:
    return f"{10.0**power:g}" if -3 <= power <= 3 else f"1e{power}"


def _counts(ticks: Sequence[int]) -> tuple[str, ...]:
    for unit, suffix in ((1_000_000, "M"), (1000, "k")):
        if max(ticks, default=0) >= 10 * unit and all(tick % unit == 0 for tick in ticks):
            return tuple(f"{tick // unit:,}{suffix if tick else ''}" for tick in ticks)
    return tuple(f"{tick:,}" for tick in ticks)


def _label(tick: float, step: float, ticks: Sequence[float]) -> str:
    if tick == 0:
        return "0" if step >= 1 or step < 1e-4 else f"{0:.{_decimals(step)}f}"
    if step < 1e-4 or max(abs(ticks[0]), abs(ticks[-1])) >= 1e6:
        mantissa, power = f"{tick:.{_decimals(step / 10.0 ** _exponent(tick))}e}".split("e")
        return f"{mantissa}e{int(power)}"
    return f"{tick:,.{_decimals(step)}f}"


def _decimals(step: float) -> int:
    return max(0, -_exponent(step))


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value)) + 1e-9)
