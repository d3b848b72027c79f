"""Checks of what a report is made from: each returns the value as plain Python, or refuses it."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any


def series(
    name: str, named: Mapping[str, Sequence[float | None]]
) -> dict[str, tuple[float | None, ...]]:
    """Returns series of plain numbers, by the names of the series; None stays None."""
    return {
        str(key): tuple(None if value is None else number(name, value) for value in values)
        for key, values in named.items()
    }


def number(name: str, value: Any) -> float:
    """Returns a plain int or float, NaN and infinity included; refuses what is no number."""
    if not isinstance(value, numbers.Real):
        raise ValueError(
            f"`{name}` must hold numbers. Received: {value!r}. Convert it with float()."
        )
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def count(name: str, value: Any, *, at_least: int) -> int:
    """Returns a plain int; refuses what is none, or too small."""
    if not isinstance(value, numbers.Integral) or value < at_least:
        raise ValueError(
            f"`{name}` must be an integer, at least {at_least}. Received: {name}={value!r}. "
            "Convert it with int()."
        )
    return int(value)


def text(name: str, value: Any) -> None:
    """Refuses what is no text, or an empty one."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"`{name}` must be a text that is not empty. Received: {name}={value!r}. Say what is "
            "shown."
        )


def plain(name: str, value: Any) -> Any:
    """Returns JSON values, NumPy's numbers as Python's; refuses anything else."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Real):
        return number(name, value)
    if isinstance(value, Mapping):
        return {str(key): plain(f"{name}.{key}", inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(name, inner) for inner in value]
    raise ValueError(
        f"`{name}` must hold JSON values. Received: {value!r}. Write it as text: str(value)."
    )
