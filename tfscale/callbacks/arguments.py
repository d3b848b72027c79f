"""Checks of what callbacks are given."""

from __future__ import annotations

from typing import Any


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
