"""Validates JSON values from a file of unknown origin.

    fields = record(value, "position", ("epoch", "step", "batches"))
    epoch = integer(fields["epoch"], "position.epoch")

Each function returns its value, or raises `Malformed` with the location of the value.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from typing import Any


class Malformed(ValueError):
    """Raised for an invalid JSON value."""


def malformed(where: str, rule: str, value: Any) -> Malformed:
    """Returns the error for a value that breaks a rule.

    Args:
        where: The location of the value, such as "position.epoch".
        rule: The rule, as it follows "must be".
        value: The value. Long values are shortened in the message.
    """
    return Malformed(f"`{where}` must be {rule}. Received: {where}={reprlib.repr(value)}")


def integer(value: Any, where: str, *, least: int = 0) -> int:
    """Returns an integer that fits into an int64.

    Args:
        value: A JSON value.
        where: Its location.
        least: The smallest allowed value.

    Raises:
        Malformed: If it is another value; `true` and `1.0` are not integers.
    """
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or not least <= value < 2**63:
        raise malformed(where, f"an integer in [{least}, 2**63)", value)
    return int(value)


def number(value: Any, where: str) -> float:
    """Returns a number, which may be NaN or infinite.

    Raises:
        Malformed: If it is another value, or an integer beyond a float64.
    """
    if isinstance(value, float):
        return value
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or not abs(value) < 2**63:
        raise malformed(where, "a number", value)
    return int(value)


def text(value: Any, where: str) -> str:
    """Returns a string.

    Raises:
        Malformed: If it is another value.
    """
    if not isinstance(value, str):
        raise malformed(where, "a string", value)
    return value


def truth(value: Any, where: str) -> bool:
    """Returns a boolean.

    Raises:
        Malformed: If it is another value.
    """
    if not isinstance(value, bool):
        raise malformed(where, "true or false", value)
    return value


def listed(value: Any, where: str) -> list[Any]:
    """Returns a list.

    Raises:
        Malformed: If it is another value.
    """
    if not isinstance(value, list):
        raise malformed(where, "a list", value)
    return value


def table(value: Any, where: str) -> dict[str, Any]:
    """Returns an object with any names.

    Raises:
        Malformed: If it is another value.
    """
    if not isinstance(value, dict):
        raise malformed(where, "an object", value)
    return value


def record(value: Any, where: str, names: Collection[str]) -> dict[str, Any]:
    """Returns an object that has exactly these names.

    Raises:
        Malformed: If it is another value, or a name is missing or unknown.
    """
    found = table(value, where)
    if found.keys() != set(names):
        raise malformed(where, f"an object of {', '.join(names)}", sorted(found))
    return found
