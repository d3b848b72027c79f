"""The rules that arguments of schedules keep: rates are finite and not negative, steps are whole.

whole_number("warmup_steps", 500)     # 500
learning_rate("initial", -1.0)        # ValueError: `initial` must be ...
"""

from __future__ import annotations

import math
import operator
from typing import Any


def learning_rate(name: str, value: Any, *, is_zero_allowed: bool = True) -> float:
    """Returns a learning rate as a Python float.

    Args:
        name: What the caller calls it, for the message.
        value: The rate, a number.
        is_zero_allowed: Whether 0 is a rate here.

    Raises:
        ValueError: If `value` is no finite number, is negative, or is a zero that is not allowed.
    """
    rate = finite_number(name, value)
    if rate < 0 or (rate == 0 and not is_zero_allowed):
        rule = "at least 0" if is_zero_allowed else "positive"
        raise ValueError(
            f"`{name}` must be {rule}. Received: {name}={value!r}. "
            "The sign of an update is the optimizer's."
        )
    return rate


def finite_number(name: str, value: Any) -> float:
    """Returns a finite number as a Python float, or raises a ValueError."""
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"`{name}` must be a finite number. Received: {name}={value!r}. Pass a float."
        )
    return number


def whole_number(name: str, value: Any, *, at_least: int = 1) -> int:
    """Returns a count, of steps or of examples, as a Python int.

    Args:
        name: What the caller calls it, for the message.
        value: The count, a whole number.
        at_least: The smallest count allowed.

    Raises:
        ValueError: If `value` is no whole number or is smaller.
    """
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None or count < at_least:
        raise ValueError(
            f"`{name}` must be a whole number, at least {at_least}. Received: {name}={value!r}. "
            "Pass an int."
        )
    return count
