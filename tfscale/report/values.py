"""Checks of the values in a report: each returns the value as plain Python, or raises."""

from __future__ import annotations

import numbers
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

LARGEST_COUNT = 2**52
"""Up to here a float can represent halves, and the arithmetic of a chart is in floats."""

_DEEPEST = 20
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 60


def series(
    name: str, named: Mapping[str, Sequence[float | None]]
) -> dict[str, tuple[float | None, ...]]:
    """Returns series of plain numbers, by the names of the series; None stays None."""
    mapping(name, named)
    for values in named.values():
        sequence(name, values)
    return {
        str(key): tuple(None if value is None else number(name, value) for value in values)
        for key, values in named.items()
    }


def number(name: str, value: Any) -> float:
    """Returns a plain int or float, which may be NaN or infinite; refuses anything else."""
    try:
        is_number = isinstance(value, numbers.Real) and float(value) is not None
    except OverflowError:  # an integer of more than 308 digits
        is_number = False
    if not is_number:
        raise ValueError(
            f"`{name}` must contain numbers in the range of a float. Received: {shown(value)}. "
            "Convert it with float()."
        )
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def count(name: str, value: Any, *, at_least: int) -> int:
    """Returns a plain int; refuses anything else, and values out of range."""
    if not isinstance(value, numbers.Integral) or not at_least <= int(value) <= LARGEST_COUNT:
        raise ValueError(
            f"`{name}` must be an integer, at least {at_least} and at most 2**52. Received: "
            f"{name}={shown(value)}. Convert it with int()."
        )
    return int(value)


def text(name: str, value: Any) -> None:
    """Refuses anything but a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"`{name}` must be a text that is not empty. Received: {name}={shown(value)}. Give a "
            "str."
        )


def any_text(name: str, value: Any) -> None:
    """Refuses anything but a text."""
    if not isinstance(value, str):
        raise ValueError(
            f"`{name}` must be a text. Received: {name}={shown(value)}. Leave it out for none."
        )


def mapping(name: str, value: Any) -> None:
    """Refuses anything but a mapping."""
    if not isinstance(value, Mapping):
        raise ValueError(
            f"`{name}` must be a mapping from names to values. Received: {name}={shown(value)}. "
            "Give a dict."
        )


def sequence(name: str, value: Any) -> None:
    """Refuses anything but an iterable of values: texts and mappings too."""
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise ValueError(
            f"`{name}` must be a sequence of values. Received: {shown(value)}. Give a list."
        )


def shown(value: Any) -> str:
    """Returns a value as errors show it: at most one line."""
    return _SHORT.repr(value)


def plain(name: str, value: Any, *, depth: int = 0) -> Any:
    """Returns JSON values, with NumPy's numbers as Python's; refuses anything else."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Real):
        return number(name, value)
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {
            str(key): plain(f"{name}.{key}", inner, depth=depth + 1) for key, inner in value.items()
        }
    if depth < _DEEPEST and isinstance(value, (list, tuple)):
        return [plain(name, inner, depth=depth + 1) for inner in value]
    raise ValueError(
        f"`{name}` must be JSON values, nested at most {_DEEPEST} deep. Received: "
        f"{shown(value)}. Write it as text: str(value)."
    )
