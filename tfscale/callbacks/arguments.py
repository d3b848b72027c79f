"""Checks of the arguments of callbacks."""

from __future__ import annotations

import numbers
from typing import Any

from strategies.extension import LARGEST_COUNT


def require(name: str, value: Any, is_right: bool, rule: str) -> None:
    """Refuses an argument that breaks its rule.

    Args:
        name: The argument's name.
        value: What it was given.
        is_right: Whether it keeps the rule.
        rule: The rule, after "must be".

    Raises:
        ValueError: If it does not.
    """
    if not is_right:
        raise ValueError(
            f"`{name}` must be {rule}. Received: {name}={value!r}. Leave it out for the default."
        )


def is_positive_integer(value: Any) -> bool:
    """Tells whether `value` is an integer, NumPy's too but no bool, of 1 or more."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_integer and 0 < int(value) <= LARGEST_COUNT
