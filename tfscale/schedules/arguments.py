"""The rule for every learning rate: finite, and not negative.

learning_rate("initial", -1.0)        # ValueError: `initial` must be ...
"""

from __future__ import annotations

from typing import Any

from strategies.extension import number


def learning_rate(name: str, value: Any, *, is_zero_allowed: bool = True) -> float:
    """Returns a learning rate as a Python float.

    Args:
        name: The argument's name, for the message.
        value: The rate, a number.
        is_zero_allowed: Whether 0 is allowed.

    Raises:
        ValueError: If `value` is not a finite number, is negative, or is 0 and that is not allowed.
    """
    rate = number(name, value)
    if rate < 0 or (rate == 0 and not is_zero_allowed):
        rule = "at least 0" if is_zero_allowed else "positive"
        raise ValueError(
            f"`{name}` must be {rule}. Received: {name}={value!r}. "
            "Optimizers subtract the update, so rates are not negative."
        )
    return rate
